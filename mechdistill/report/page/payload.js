"use strict";
// What the page carries: loadPayload() -> Promise of {json, blob(name): Uint8Array, text(name): string}.

const loadPayload = (() => {
  let promise = null;

  async function unpacked() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser cannot unpack the page (it has no DecompressionStream); open it in a newer one");
    }
    const text = document.getElementById("payload").textContent.trim();
    const gzipped = new Uint8Array(Math.floor((text.length * 3) / 4));
    let length = 0;
    for (let start = 0; start < text.length; start += 1 << 20) {  // whole groups of four characters
      const part = atob(text.slice(start, start + (1 << 20)));
      for (let i = 0; i < part.length; i++) gzipped[length++] = part.charCodeAt(i);
    }
    const stream = new Blob([gzipped.subarray(0, length)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const headerLength = new DataView(bytes.buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength)));
    const blobs = new Map();
    let offset = 4 + headerLength;
    for (const [name, size] of header.blobs) {
      blobs.set(name, bytes.subarray(offset, offset + size));
      offset += size;
    }
    const blob = (name) => {
      if (!blobs.has(name)) throw new Error(`the page carries no '${name}'`);
      return blobs.get(name);
    };
    return { json: header.json, blob, text: (name) => new TextDecoder().decode(blob(name)) };
  }

  function said(error) {
    const line = document.createElement("p");
    line.className = "unreadable";
    line.setAttribute("role", "alert");
    line.textContent = error.message;
    document.body.prepend(line);
    throw error;
  }

  return () => (promise ??= unpacked().catch(said));
})();
