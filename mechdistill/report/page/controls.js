"use strict";
// The explorer's controls: form elements with labels that change its state, and show it.

const mechdistillControls = (() => {
  const { el, tokensSaid } = mechdistillPane;

  function options(select, names, values) {
    const key = JSON.stringify([names, values]);
    if (select.dataset.key === key) return;
    select.replaceChildren(...names.map((name, i) => el("option", { value: values[i], text: name })));
    select.dataset.key = key;
  }

  /** Text -> {tokens} or {wrong: why}. */
  function spelled({ letters, vocab, n_ctx: most }, text) {
    const parts = letters ? [...text] : text.split(/[\s,;]+/).filter(Boolean);
    const tokens = parts.map((part) => (letters ? letters.indexOf(part) : /^\d{1,9}$/.test(part) ? Number(part) : -1));
    const odd = parts.find((_, i) => tokens[i] < 0 || tokens[i] >= vocab);
    if (odd !== undefined) return { wrong: `'${odd.slice(0, 20)}': this world has no such token` };
    if (tokens.length === 0) return { wrong: "the prompt is empty: type at least one token" };
    if (tokens.length > most) return { wrong: `${tokens.length} tokens: a prompt has at most ${most}` };
    return { tokens };
  }

  class Controls {
    /** `app`: the explorer, whose `state` is shown and whose methods change it; `views`: what there is to show. */
    constructor(app, views) {
      this.app = app;
      this.views = views;
      this.arms = [...new Set(views.data.runs.map((run) => run.arm))];
      const { modes } = views.data;
      this.fields = {};
      const run = (e, arm) => app.choose(this.#ofArm(arm), e);
      const top = [
        this.#select("arm", "Arm", (e) => run(e, e.target.value)),
        this.#select("seed", "Seed", (e) => app.choose(Number(e.target.value), e)),
        this.#select("twin", "Twin beside", (e) => {
          app.update({ twin: e.target.value === "" ? -1 : this.#ofArm(e.target.value) }, e);
        }),
        this.#button("play", "Play", () => app.play()),
        this.#checkpoint(),
      ];
      const middle = [
        this.#select("layer", "Layer", (e) => app.update({ layer: Number(e.target.value) }, e)),
        this.#select("head", "Head", (e) => app.update({ head: Number(e.target.value) }, e)),
        this.#select("mode", "Heads that are off", (e) => app.update({ mode: e.target.value }, e)),
        this.#button("allOn", "All heads on", (e) => app.update({ off: new Set() }, e)),
        this.#input("pos", "Query position", { type: "number", min: 0 }, (e) => this.#moved(e)),
        this.#input("token", "Token there", { type: "text", size: 4, autocomplete: "off" }, (e) => this.#edited(e)),
        this.#button("remove", "Remove token", (e) => this.#splice(1, [], e)),
        this.#button("insert", "Insert one after", (e) => this.#splice(0, null, e)),
      ];
      const bottom = [
        this.#select("prompt", "Prompt", (e) => {
          app.update({ prompt: Number(e.target.value), tokens: null }, e);
          this.writePrompt();
        }),
        this.#text(),
      ];
      options(this.fields.arm, this.arms, this.arms);
      options(this.fields.mode, modes.map((mode) => mode.label), modes.map((mode) => mode.name));
      this.wrong = el("p", { class: "wrong", role: "alert" });
      this.rows = [top, middle, bottom].map((row) => el("div", { class: "controls" }, ...row));
      this.rows.push(this.wrong);
    }

    /** The run of an arm that is of the present seed, or its first. */
    #ofArm(arm) {
      return mechdistillLink.ofArm(this.views.data, arm, this.views.run(this.app.state).seed)[0];
    }

    #select(name, label, change) {
      this.fields[name] = el("select", { change });
      return el("label", { class: "field" }, el("span", { text: label }), this.fields[name]);
    }

    #button(name, text, click) {
      this.fields[name] = el("button", { type: "button", class: name, text, click });
      return this.fields[name];
    }

    #input(name, label, attributes, input) {
      this.fields[name] = el("input", { ...attributes, input });
      return el("label", { class: "field" }, el("span", { text: label }), this.fields[name]);
    }

    #checkpoint() {
      const input = (e) => this.app.update({ checkpoint: Number(e.target.value) }, e);
      this.fields.checkpoint = el("input", { type: "range", min: 0, input });
      this.where = el("output", {});
      return el("label", { class: "field wide" }, el("span", {}, "Checkpoint ", this.where), this.fields.checkpoint);
    }

    #text() {
      const input = (e) => this.#typed(e);
      this.fields.text = el("textarea", { rows: 2, spellcheck: "false", autocomplete: "off", input });
      this.textSaid = el("span", {});
      return el("label", { class: "field typed" }, this.textSaid, this.fields.text);
    }

    draw() {
      const { views, fields: f, arms } = this, { state, playing } = this.app, { data } = views;
      const run = views.run(state), shape = views.shape(state), world = views.world(state);
      const tokens = views.tokens(state), at = run.checkpoints[state.checkpoint];
      const show = (field, value, names = null, values = names) => {
        if (names !== null) options(field, names, values);
        field.value = value;
        field.disabled = field.options.length < 2;
      };
      const numbered = (n) => Array.from({ length: n }, (_, i) => String(i));
      const seeds = data.runs.map((_, i) => i).filter((i) => data.runs[i].arm === run.arm);
      const others = arms.filter((arm) => this.#ofArm(arm) !== state.run);
      show(f.arm, run.arm);
      show(f.seed, state.run, seeds.map((i) => String(data.runs[i].seed)), seeds);
      show(f.twin, state.twin < 0 ? "" : data.runs[state.twin].arm, ["(no twin)", ...others], ["", ...others]);
      show(f.layer, state.layer, numbered(shape.n_layers));
      show(f.head, state.head, numbered(shape.n_heads));
      show(f.mode, state.mode);
      f.mode.disabled = shape.n_heads === 0;
      f.allOn.disabled = state.off.size === 0;
      const prompts = world.prompts.map((_, i) => `held-out sequence ${i + 1}`);
      show(f.prompt, state.prompt, [...prompts, "your own"], [...prompts.keys(), -1]);
      f.prompt.lastElementChild.disabled = true;
      f.checkpoint.max = run.checkpoints.length - 1;
      f.checkpoint.value = state.checkpoint;
      f.checkpoint.disabled = f.play.disabled = run.checkpoints.length < 2;
      const place = `${state.checkpoint + 1} of ${run.checkpoints.length}`;
      this.where.textContent = `step ${at.step}, ${tokensSaid(at.tokens)} (${place})`;
      f.checkpoint.setAttribute("aria-valuetext", this.where.textContent);
      f.play.textContent = playing ? "Pause" : "Play";
      f.pos.max = tokens.length - 1;
      // what somebody is typing is left alone; what was wrong in it goes once they do something else
      const typing = [f.text, f.token].includes(document.activeElement);
      if (this.wrong.textContent && !typing) this.writePrompt();
      if (document.activeElement !== f.pos) f.pos.value = state.pos;
      if (document.activeElement !== f.token) f.token.value = this.#symbol(tokens[state.pos]);
      f.remove.disabled = tokens.length < 2;
      f.insert.disabled = tokens.length >= world.n_ctx;
      const what = world.letters ? "characters" : `numbers below ${world.vocab}`;
      this.textSaid.textContent = `Tokens: ${what}, at most ${world.n_ctx}`;
    }

    #symbol(token) {
      const { letters } = this.views.world(this.app.state);
      return letters ? letters[token] : String(token);
    }

    #take(field, found, use) {
      field.setAttribute("aria-invalid", "wrong" in found);
      this.wrong.textContent = found.wrong ?? "";
      if (!("wrong" in found)) use(found.tokens);
    }

    #typed(event) {
      const found = spelled(this.views.world(this.app.state), event.target.value);
      this.#take(event.target, found, (tokens) => this.app.update({ tokens, prompt: -1 }, event));
    }

    #edited(event) {
      const { state } = this.app, found = spelled(this.views.world(state), event.target.value);
      if ("tokens" in found && found.tokens.length > 1) found.wrong = "one token at a time, please";
      this.#take(event.target, found, ([token]) => {
        const tokens = this.views.tokens(state).slice();
        tokens[state.pos] = token;
        this.app.update({ tokens, prompt: -1 }, event);
        this.writePrompt();
      });
    }

    #moved(event) {
      const pos = Number(event.target.value);
      if (event.target.value !== "" && Number.isInteger(pos) && pos >= 0) this.app.update({ pos }, event);
    }

    /** At the query: `remove` tokens go, and others come in after; null is one more of the token there. */
    #splice(remove, added, event) {
      const { pos } = this.app.state, tokens = this.views.tokens(this.app.state).slice();
      tokens.splice(pos, remove, ...(added ?? [tokens[pos]]));
      this.app.update({ tokens, prompt: -1, pos: remove ? pos : pos + 1 }, event);
      this.writePrompt();
    }

    /** Put the present prompt into the field, whatever was typed there. */
    writePrompt() {
      const { state } = this.app, { fields } = this;
      const separator = this.views.world(state).letters ? "" : " ";
      fields.text.value = this.views.tokens(state).map((t) => this.#symbol(t)).join(separator);
      for (const field of [fields.text, fields.token]) field.setAttribute("aria-invalid", false);
      this.wrong.textContent = "";
    }
  }

  return { Controls };
})();
