"use strict";
// A head's attention pattern on a canvas: queries down, sources across, tokens named at both axes.

const mechdistillHeatmap = (() => {
  // from nothing to all of a head's attention; lightness goes one way, so that grey tells it too
  const RAMPS = {
    light: [[255, 255, 255], [178, 210, 235], [70, 140, 196], [11, 78, 138], [6, 30, 62]],
    dark: [[27, 30, 36], [29, 66, 102], [46, 118, 176], [128, 190, 236], [244, 250, 255]],
  };
  const LEVELS = 256;

  function ramp(stops) {
    return Array.from({ length: LEVELS }, (_, i) => {
      const at = (i / (LEVELS - 1)) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      return stops[low].map((v, c) => Math.round(v + (stops[low + 1][c] - v) * (at - low)));
    });
  }

  const TABLES = { light: ramp(RAMPS.light), dark: ramp(RAMPS.dark) };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const table = () => (dark.matches ? TABLES.dark : TABLES.light);
  const level = (weight) => table()[Math.max(0, Math.min(LEVELS - 1, Math.round(weight * (LEVELS - 1))))];

  /** Colours of a cell that holds so much attention: what is behind, and text that can be read on it. */
  function colours(weight) {
    const [r, g, b] = level(weight);
    const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const luminance = 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    return { back: `rgb(${r} ${g} ${b})`, text: luminance > 0.18 ? "#000000" : "#ffffff" };
  }

  /** The ramp as a CSS gradient. */
  function gradient() {
    const stops = (dark.matches ? RAMPS.dark : RAMPS.light).map((stop) => `rgb(${stop.join(" ")})`);
    return `linear-gradient(to right, ${stops.join(", ")})`;
  }

  const small = document.createElement("canvas");

  /** Where cells lie, in CSS pixels: {left, top, cell}. */
  function geometry(canvas, n, names) {
    const side = canvas.clientWidth;
    const longest = Math.max(...names.map((name) => name.length));
    const left = 26 + 7 * Math.min(longest, 6), bottom = 24;
    return { left, top: 4, cell: Math.max(1, Math.min((side - left - 4 - 4 * Math.min(longest, 6)) / n, 40)), bottom };
  }

  /**
   * `view`: {pattern: Float32Array(n*n), names: [n], query, labels: of `mechdistillOracle.labels`}.
   * Gives the geometry.
   */
  function draw(canvas, view) {
    const { pattern, names, query, labels } = view;
    const n = names.length;
    const place = geometry(canvas, n, names);
    const { left, top, cell } = place;
    const width = canvas.clientWidth, height = Math.ceil(top + cell * n + place.bottom);
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const at = canvas.getContext("2d");
    at.scale(ratio, ratio);

    small.width = small.height = n;
    const image = new ImageData(n, n);
    const numbers = table();
    for (let q = 0; q < n; q++) {
      for (let s = 0; s <= q; s++) {
        const rgb = numbers[Math.round(pattern[q * n + s] * (LEVELS - 1))];
        const i = 4 * (q * n + s);
        image.data[i] = rgb[0];
        image.data[i + 1] = rgb[1];
        image.data[i + 2] = rgb[2];
        image.data[i + 3] = 255; // what lies ahead stays transparent
      }
    }
    small.getContext("2d").putImageData(image, 0, 0);
    at.imageSmoothingEnabled = false;
    at.fillStyle = colour("--panel");
    at.fillRect(left, top, cell * n, cell * n);
    at.drawImage(small, left, top, cell * n, cell * n);
    at.strokeStyle = colour("--edge");
    at.lineWidth = 1;
    at.strokeRect(left - 0.5, top - 0.5, cell * n + 1, cell * n + 1);

    at.strokeStyle = at.fillStyle = colour("--mark");
    const loose = cell < 8 ? 1 : 0; // an outline around a small cell, not over it
    labels.forEach((label, q) => {
      if (!label.copyable) return;
      const y = top + cell * q, size = Math.min(4, Math.max(2.5, cell / 2));
      at.beginPath();
      at.moveTo(left - 8, y + cell / 2 - size);
      at.lineTo(left - 2, y + cell / 2);
      at.lineTo(left - 8, y + cell / 2 + size);
      at.fill();
      at.lineWidth = q === query ? 2 : 1;
      for (const s of label.sources) {
        at.strokeRect(left + cell * s - loose, y - loose, cell + 2 * loose, cell + 2 * loose);
      }
    });

    at.strokeStyle = colour("--ink");
    at.lineWidth = 1.5;
    at.strokeRect(left - 1, top + cell * query - 1, cell * n + 2, cell + 2);
    drawNames(at, place, names, query, colour);
    return place;
  }

  function drawNames(at, { left, top, cell }, names, query, colour) {
    const n = names.length;
    const cut = (name) => (name.length > 6 ? `${name.slice(0, 5)}…` : name);
    const every = Math.ceil(13 / cell);
    const apart = Math.ceil((7 * Math.min(6, Math.max(...names.map((name) => name.length))) + 6) / cell);
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    at.textBaseline = "middle";
    for (let i = 0; i < n; i++) {
      const chosen = i === query;
      at.font = chosen ? `bold ${font}` : font;
      at.fillStyle = colour(chosen ? "--ink" : "--faint");
      at.textAlign = "right";
      const near = Math.abs(i - query) < every;
      if (chosen || (i % every === 0 && !near)) at.fillText(cut(names[i]), left - 11, top + cell * (i + 0.5));
      at.font = font;
      at.fillStyle = colour("--faint");
      at.textAlign = "center";
      if (i % apart === 0) at.fillText(cut(names[i]), left + cell * (i + 0.5), top + cell * n + 11);
    }
  }

  /** The cell under a pointer: {query, source}, or null. */
  function cellAt({ left, top, cell }, n, x, y) {
    const query = Math.floor((y - top) / cell), source = Math.floor((x - left) / cell);
    if (query < 0 || query >= n || x < 0) return null;
    return { query, source: source >= 0 && source <= query ? source : null };
  }

  return { cellAt, colours, dark, draw, gradient };
})();
