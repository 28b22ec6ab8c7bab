"use strict";
// The live head explorer: its state, keys and address, around the controls and the two panes that show it.

(() => {
  const { Pane, el } = mechdistillPane;
  const SLOWNESS = 700; // ms between checkpoints while playing
  const HELP =
    "Keys: ← → head, ↑ ↓ layer, [ ] query, comma and period checkpoint, p play, x head off. " +
    "Click a token to make it the query and to edit it above.";

  class Explorer {
    constructor(root, views) {
      this.root = root;
      this.views = views;
      this.data = views.data;
      // under about:srcdoc and blob: the address is not ours
      this.hasAddress = /^(file|https?):$/.test(location.protocol);
      this.notes = [];
      this.state = views.opening();
      this.drawn = 0;
      this.#build();
      this.#restore();
      addEventListener("hashchange", () => this.#restore());
      addEventListener("keydown", (event) => this.#key(event));
      new ResizeObserver(() => root.clientWidth !== this.width && this.update({})).observe(root);
      mechdistillHeatmap.dark.addEventListener("change", () => this.update({}));
    }

    #build() {
      this.controls = new mechdistillControls.Controls(this, this.views);
      const act = {
        choose: (layer, head, event) => this.update({ layer, head }, event),
        toggle: (name, event) => this.#toggle(name, event),
        query: (pos, event) => this.update({ pos }, event),
        edit: () => this.controls.fields.token.select(),
      };
      this.panes = [new Pane(act, this.data.modes), new Pane(act, this.data.modes)];
      this.panes[1].line.removeAttribute("aria-live");
      this.note = el("p", { class: "notice", role: "status", hidden: true });
      this.speed = el("span", { class: "speed" });
      const sample = (kind, text) => el("span", { class: `sample ${kind}`, text });
      this.root.tabIndex = -1;
      this.root.replaceChildren(
        this.note,
        ...this.controls.rows,
        el(
          "p",
          { class: "hint legend" },
          sample("trigger", "t"),
          " trigger ",
          sample("trigger copyable", "t"),
          " seen before: copyable ",
          sample("source", "c"),
          " where the query should look ",
          sample("query", "t"),
          " query. In the pattern ▸ marks copyable queries, and boxes where they should look.",
        ),
        el("div", { class: "panes" }, ...this.panes.map((pane) => pane.root)),
        el("p", { class: "hint foot" }, el("span", { text: HELP }), this.speed),
        el("p", { class: "hint", text: this.data.said }),
      );
      this.controls.writePrompt();
    }

    /** Change the state and draw in the next frame; `event` is what the wait is counted from. */
    update(change, event = null) {
      const { views } = this, next = { ...this.state, ...change };
      if (views.world(next) !== views.world(this.state)) Object.assign(next, { prompt: 0, tokens: null });
      const within = (x, n) => Math.max(0, Math.min(x, n - 1));
      const shape = views.shape(next);
      next.checkpoint = within(next.checkpoint, views.run(next).checkpoints.length);
      next.layer = within(next.layer, shape.n_layers);
      next.head = within(next.head, shape.n_heads);
      next.pos = within(next.pos, views.tokens(next).length);
      if (next.twin === next.run) next.twin = -1;
      this.state = next;
      if (event !== null) this.notes = []; // of the link that was opened
      this.since ??= event?.timeStamp ?? null;
      this.shares ||= event !== null;
      this.settled = false;
      this.frame ??= requestAnimationFrame(() => this.#draw());
    }

    #draw() {
      const { state, views, since } = this;
      this.frame = this.since = null;
      this.width = this.root.clientWidth;
      this.panes[0].draw(views.view(state, state.run, state.checkpoint));
      this.panes[1].root.hidden = state.twin < 0;
      if (state.twin >= 0) {
        const { tokens } = views.run(state).checkpoints[state.checkpoint];
        this.panes[1].draw(views.view(state, state.twin, views.nearest(state.twin, tokens)));
      }
      this.controls.draw();
      const heads = views.shape(state).n_heads > 0;
      const lines = heads ? this.notes : [...this.notes, "This model is a table of bigrams: it has no heads to show"];
      this.note.hidden = lines.length === 0;
      this.note.textContent = lines.join(". ");
      setTimeout(() => {
        this.drawn += 1;
        this.settled = this.frame === null;
        if (since === null) return;
        this.lasted = performance.now() - since;
        this.speed.textContent = `${Math.max(1, Math.round(this.lasted))} ms from input to drawn`;
      });
      if (this.shares && this.hasAddress) this.#share();
      this.shares = false;
    }

    #share() {
      clearTimeout(this.sharing); // browsers refuse many changes of the address in a short time
      this.sharing = setTimeout(() => {
        this.address = mechdistillLink.written(this.data, this.state);
        history.replaceState(null, "", this.address);
      }, 250);
    }

    #restore() {
      if (this.hasAddress && location.hash !== this.address) {
        const found = mechdistillLink.read(this.data, location.hash, this.state);
        if (found !== null) {
          this.notes = found.notes;
          this.state = found.state;
          this.controls.writePrompt();
        }
      }
      this.update({});
    }

    /** Another run, its twin of the same seed, and the checkpoints nearest in tokens to the present one. */
    choose(run, event) {
      const { views, data, state } = this, { seed } = data.runs[run];
      const { tokens } = views.run(state).checkpoints[state.checkpoint];
      let { twin } = state;
      if (twin === run) twin = state.run;
      if (twin >= 0) [twin] = mechdistillLink.ofArm(data, data.runs[twin].arm, seed);
      this.update({ run, twin, checkpoint: views.nearest(run, tokens) }, event);
      this.controls.writePrompt();
    }

    #toggle(name, event) {
      const off = new Set(this.state.off);
      if (!off.delete(name)) off.add(name);
      this.update({ off }, event);
    }

    #step(by, event) {
      this.update({ checkpoint: this.state.checkpoint + by }, event);
    }

    play() {
      const last = this.views.run(this.state).checkpoints.length - 1;
      clearInterval(this.playing);
      if (this.playing) {
        this.playing = null;
        this.shares = true; // where it stopped can be sent
      } else {
        if (this.state.checkpoint === last) this.update({ checkpoint: 0 });
        this.playing = setInterval(() => {
          const { checkpoints } = this.views.run(this.state);
          if (this.state.checkpoint >= checkpoints.length - 1) this.play();
          else this.#step(1, null);
        }, SLOWNESS);
      }
      this.update({});
    }

    #key(event) {
      const { target } = event;
      const typing = target.matches?.("textarea, select, input:not([type=checkbox])");
      const alone = target === document.body && this.root.parentElement.matches(".alone");
      if (!(alone || this.root.contains(target)) || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === " " && target.matches("input, button")) return; // it presses that
      const { layer, head, pos } = this.state;
      const act = {
        ArrowLeft: () => this.update({ head: head - 1 }, event),
        ArrowRight: () => this.update({ head: head + 1 }, event),
        ArrowUp: () => this.update({ layer: layer - 1 }, event),
        ArrowDown: () => this.update({ layer: layer + 1 }, event),
        "[": () => this.update({ pos: pos - 1 }, event),
        "]": () => this.update({ pos: pos + 1 }, event),
        ",": () => this.#step(-1, event),
        ".": () => this.#step(1, event),
        PageUp: () => this.#step(-1, event),
        PageDown: () => this.#step(1, event),
        " ": () => this.play(),
        p: () => this.play(),
        x: () => this.views.shape(this.state).n_heads && this.#toggle(`L${layer}H${head}`, event),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }
  }

  /** For tests and the curious: the models and oracles of the page, by hand. */
  function api(explorer) {
    const { views, data } = explorer;
    const find = (name) => {
      const run = data.runs.find((each) => each.name === name);
      if (!run) throw new Error(`no run '${name}' in this page`);
      return run;
    };
    return {
      forward({ run: name, step, tokens, off = [], mode = explorer.state.mode }) {
        const run = find(name), index = run.checkpoints.findIndex((each) => each.step === step);
        if (index < 0) throw new Error(`no step ${step} of '${name}' in this page`);
        const made = mechdistillModel.forward(views.model(run, index), tokens, new Set(off), mode);
        return {
          logits: made.logits.map((row) => Array.from(row)),
          patterns: made.patterns.map((layer) => layer.map((pattern) => Array.from(pattern))),
        };
      },
      oracle({ run: name, tokens }) {
        const world = views.worlds[find(name).world];
        return tokens.map((_, q) => Array.from(mechdistillOracle.law(world, tokens, q)));
      },
      labels: () => views.labels(explorer.state),
      state() {
        const { state } = explorer, run = views.run(state);
        const twin = state.twin < 0 ? null : data.runs[state.twin].name;
        const { step } = run.checkpoints[state.checkpoint];
        return { ...state, off: [...state.off], run: run.name, twin, step, tokens: [...views.tokens(state)] };
      },
      runs: () => data.runs.map((run) => ({ name: run.name, steps: run.checkpoints.map((each) => each.step) })),
      drawn: () => explorer.drawn,
      settled: () => explorer.settled,
      lasted: () => explorer.lasted ?? null,
    };
  }

  loadPayload().then((payload) => {
    const views = new mechdistillViews.Views(payload);
    window.mechdistill = api(new Explorer(document.getElementById("explorer"), views));
  });
})();
