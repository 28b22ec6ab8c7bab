"use strict";
// What there is to see: models and oracles of the payload on a prompt. Decoded when first asked for, and kept.

const mechdistillViews = (() => {
  const CACHED = 4; // sequences whose laws, and models' outputs with all heads on, that are kept: they may be large

  /** The last few values of a function of a text. */
  function remembered(make) {
    const known = new Map();
    return (key, ...rest) => {
      if (!known.has(key)) {
        if (known.size >= CACHED) known.delete(known.keys().next().value);
        known.set(key, make(...rest));
      }
      return known.get(key);
    };
  }

  class Views {
    constructor(payload) {
      this.payload = payload;
      this.data = payload.json.explorer;
      this.models = new Map();
      this.worlds = this.data.worlds.map((world, i) => this.#world(world, i));
      this.laws = remembered((world, tokens) => tokens.map((_, q) => mechdistillOracle.law(world, tokens, q)));
      this.intact = remembered((model, tokens) => mechdistillModel.forward(model, tokens));
    }

    #world(world, i) {
      const numbers = (name) => new Float32Array(this.payload.blob(`${name} ${i}`).slice().buffer);
      return world.law ? { ...world, pi: numbers("pi"), prior: numbers("prior") } : { ...world, pi: null, prior: null };
    }

    /** The state that the page opens with: the best head, at the last place where it has something to copy. */
    opening() {
      const [run, twin = -1] = this.data.start;
      const checkpoint = this.data.runs[run].checkpoints.length - 1;
      const state = { run, twin, checkpoint, layer: 0, head: 0, prompt: 0, tokens: null, pos: 0, off: new Set() };
      const scores = this.data.runs[run].checkpoints[checkpoint].scores.values?.[this.data.ranking.name] ?? {};
      const [best] = Object.keys(scores).sort((a, b) => scores[b] - scores[a]);
      if (best) [, state.layer, state.head] = /^L(\d+)H(\d+)$/.exec(best).map(Number);
      state.mode = this.data.modes[0].name;
      const labels = this.labels(state);
      state.pos = Math.max(0, labels.findLastIndex((label) => label.copyable && label.sources.length));
      return state;
    }

    run(state) {
      return this.data.runs[state.run];
    }

    shape(state) {
      return this.data.shapes[this.run(state).shape];
    }

    world(state) {
      return this.worlds[this.run(state).world];
    }

    tokens(state) {
      return state.tokens ?? this.world(state).prompts[state.prompt].tokens.slice(0, -1);
    }

    labels(state) {
      const hidden = state.prompt >= 0 ? new Set(this.world(state).prompts[state.prompt].hidden) : null;
      return mechdistillOracle.labels(this.world(state), this.tokens(state), hidden);
    }

    /** Of a run: the checkpoint that has seen most nearly as many tokens. */
    nearest(run, tokens) {
      const far = this.data.runs[run].checkpoints.map((each) => Math.abs(each.tokens - tokens));
      return far.indexOf(Math.min(...far));
    }

    model(run, checkpoint) {
      const { weights } = run.checkpoints[checkpoint];
      if (!this.models.has(weights)) {
        const shape = this.data.shapes[run.shape];
        this.models.set(weights, mechdistillModel.decode(this.payload.blob(weights), shape));
      }
      return this.models.get(weights);
    }

    /** What a pane shows of one checkpoint of a run; with a `notice` alone where the prompt does not fit its world. */
    view(state, runIndex, checkpointIndex) {
      const run = this.data.runs[runIndex], checkpoint = run.checkpoints[checkpointIndex];
      const shape = this.data.shapes[run.shape], world = this.worlds[run.world], tokens = this.tokens(state);
      const { colours, ranking, earlier } = this.data;
      const view = { run, checkpoint, shape, state, ranking, earlier, tokens, colour: colours[run.arm], notice: null };
      if (tokens.length > shape.n_ctx || tokens.some((t) => t >= world.vocab)) {
        view.notice = "This run's world has other tokens or shorter sequences: the prompt cannot be shown in it.";
        return view;
      }
      const key = tokens.join(" "), model = this.model(run, checkpointIndex);
      const intact = this.intact(`${checkpoint.weights} ${key}`, model, tokens);
      const off = [...state.off].filter((name) => this.#isHead(shape, name));
      const now = off.length ? mechdistillModel.forward(model, tokens, new Set(off), state.mode) : intact;
      const laws = world.law ? this.laws(`${run.world} ${key}`, world, tokens) : null;
      const hidden = state.prompt >= 0 && run.world === this.run(state).world;
      const labels = hidden ? this.labels(state) : mechdistillOracle.labels(world, tokens, null);
      const following = state.prompt >= 0 ? this.world(state).prompts[state.prompt].tokens : tokens;
      const probabilities = now.logits.map(mechdistillModel.softmax);
      const measured = numbers(probabilities, labels, laws);
      return Object.assign(view, {
        labels,
        symbols: world.symbols,
        names: tokens.map((t) => world.symbols[t]),
        query: state.pos,
        pattern: now.patterns[state.layer]?.[state.head] ?? null,
        model: probabilities[state.pos],
        law: laws === null ? null : laws[state.pos],
        next: following[state.pos + 1] ?? null,
        copyable: labels.filter((label) => label.copyable).length,
        now: measured,
        intact: now === intact ? measured : numbers(intact.logits.map(mechdistillModel.softmax), labels, laws),
      });
    }

    #isHead(shape, name) {
      const [, layer, head] = /^L(\d+)H(\d+)$/.exec(name).map(Number);
      return layer < shape.n_layers && head < shape.n_heads;
    }
  }

  /** What a prompt's laws come to: at copyable positions, and, beside the oracle, at all. */
  function numbers(probabilities, labels, laws) {
    let right = 0, probability = 0, copyable = 0, kl = 0;
    probabilities.forEach((p, q) => {
      if (labels[q].copyable) {
        copyable += 1;
        probability += p[labels[q].target];
        right += p.indexOf(p.reduce((a, b) => Math.max(a, b))) === labels[q].target;
      }
      laws?.[q].forEach((oracle, token) => {
        if (oracle > 0) kl += oracle * Math.log(oracle / Math.max(p[token], 1e-300));
      });
    });
    const mean = (sum, n) => (n ? sum / n : null);
    return {
      accuracy: mean(right, copyable),
      probability: mean(probability, copyable),
      kl: laws === null ? null : kl / probabilities.length,
    };
  }

  return { Views };
})();
