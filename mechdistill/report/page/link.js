"use strict";
// The state of the explorer as the part of an address after '#', and back. What does not fit is ignored and named.

const mechdistillLink = (() => {
  const KEYS = ["arm", "seed", "step", "layer", "head", "twin", "prompt", "tokens", "pos", "off", "mode"];

  const MOST_OFF = 256; // heads that a link may name

  /** The state as text; `data` is the explorer's part of the payload. */
  function written(data, state) {
    const run = data.runs[state.run];
    const part = new URLSearchParams();
    part.set("arm", run.arm);
    part.set("seed", run.seed);
    part.set("step", run.checkpoints[state.checkpoint].step);
    part.set("layer", state.layer);
    part.set("head", state.head);
    part.set("twin", state.twin < 0 ? "" : data.runs[state.twin].arm);
    if (state.prompt >= 0) part.set("prompt", state.prompt + 1);
    else part.set("tokens", state.tokens.join("."));
    part.set("pos", state.pos);
    if (state.off.size) part.set("off", [...state.off].sort().join("."));
    part.set("mode", state.mode);
    return `#${part}`;
  }

  /** Runs of an arm, the one with this seed first. */
  function ofArm(data, arm, seed) {
    const found = data.runs.map((_, i) => i).filter((i) => data.runs[i].arm === arm);
    return found.sort((a, b) => (data.runs[b].seed === seed) - (data.runs[a].seed === seed));
  }

  function whole(text, most) {
    return /^\d{1,9}$/.test(text) && Number(text) <= most ? Number(text) : null;
  }

  /**
   * The state that a link means, starting from `state`: {state, notes}; null where the text is no link of ours (an
   * anchor of the page, say). Notes are lines of plain text.
   */
  function read(data, text, state) {
    const part = new URLSearchParams(text.replace(/^#/, ""));
    if (!KEYS.some((key) => part.has(key))) return null;
    const next = { ...state, off: new Set() };
    const notes = [];
    const refuse = (key, value = part.get(key)) =>
      notes.push(`the link's ${key} '${value.slice(0, 60)}' is not in this page; ignored`);
    for (const key of new Set(part.keys())) {
      if (!KEYS.includes(key)) notes.push(`the link says '${key.slice(0, 60)}', which means nothing here; ignored`);
    }
    const take = (key, most, set) => {
      if (!part.has(key)) return;
      const value = whole(part.get(key), most);
      if (value === null) refuse(key);
      else set(value);
    };

    let { arm, seed } = data.runs[next.run];
    if (part.has("arm")) {
      if (data.runs.some((run) => run.arm === part.get("arm"))) arm = part.get("arm");
      else refuse("arm");
    }
    if (part.has("seed")) {
      const asked = data.runs.find((run) => run.arm === arm && String(run.seed) === part.get("seed"));
      if (asked) ({ seed } = asked);
      else refuse("seed");
    }
    [next.run] = ofArm(data, arm, seed);
    const run = data.runs[next.run], shape = data.shapes[run.shape], world = data.worlds[run.world];
    if (world !== data.worlds[data.runs[state.run].world]) Object.assign(next, { prompt: 0, tokens: null });
    next.checkpoint = run.checkpoints.length - 1;
    take("step", 1e9, (step) => {
      const index = run.checkpoints.findIndex((checkpoint) => checkpoint.step === step);
      if (index >= 0) next.checkpoint = index;
      else refuse("step");
    });
    const beside = (arm) => {
      const [twin] = ofArm(data, arm, run.seed);
      return twin === undefined || twin === next.run ? -1 : twin;
    };
    if (next.twin >= 0) next.twin = beside(data.runs[next.twin].arm); // of the seed that the link asks for
    if (part.has("twin")) {
      const twin = beside(part.get("twin"));
      if (part.get("twin") === "" || twin >= 0) next.twin = twin;
      else refuse("twin");
    }
    take("layer", shape.n_layers - 1, (layer) => (next.layer = layer));
    take("head", shape.n_heads - 1, (head) => (next.head = head));
    take("prompt", world.prompts.length, (number) => {
      if (number < 1) refuse("prompt");
      else Object.assign(next, { prompt: number - 1, tokens: null });
    });
    if (part.has("tokens")) {
      const asked = part.get("tokens");
      const tokens = /^\d{1,4}(\.\d{1,4})*$/.test(asked) ? asked.split(".").map(Number) : [];
      const fits = tokens.length >= 1 && tokens.length <= world.n_ctx && tokens.every((t) => t < world.vocab);
      if (fits) Object.assign(next, { prompt: -1, tokens });
      else refuse("tokens");
    }
    const length = next.tokens ? next.tokens.length : world.prompts[next.prompt].tokens.length - 1;
    take("pos", length - 1, (pos) => (next.pos = pos));
    if (part.has("off")) {
      for (const name of part.get("off").split(".").slice(0, MOST_OFF)) {
        const match = /^L(\d{1,3})H(\d{1,3})$/.exec(name);
        if (match && Number(match[1]) < shape.n_layers && Number(match[2]) < shape.n_heads) next.off.add(name);
        else refuse("off", name);
      }
    }
    if (part.has("mode")) {
      if (data.modes.some((mode) => mode.name === part.get("mode"))) next.mode = part.get("mode");
      else refuse("mode");
    }
    return { state: next, notes };
  }

  return { ofArm, read, written };
})();
