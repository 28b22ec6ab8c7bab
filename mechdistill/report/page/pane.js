"use strict";
// One run of the explorer: its heads, the chosen head's pattern, the prompt, the next-token law, numbers. Elements are
// made once and filled anew at every drawing; whatever a user has named goes in as text.

const mechdistillPane = (() => {
  const TOP = 8;

  /** An element: attributes, with `text` for its text and functions for events. */
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  /** .934, 1.000, <.001, 0: shares to three digits. */
  function share(x) {
    if (x === 0) return "0";
    if (x < 0.0005) return "<.001";
    return x.toFixed(3).replace(/^0/, "");
  }

  const number = (x, digits) => (x === null || x === undefined || Number.isNaN(x) ? "–" : x.toFixed(digits));

  function tokensSaid(tokens) {
    if (tokens < 1e3) return `${tokens} tokens`;
    return tokens < 1e6 ? `${Math.round(tokens / 1e3)} k tokens` : `${(tokens / 1e6).toFixed(2)} M tokens`;
  }

  class Pane {
    /** `act`: {choose(layer, head, event), toggle(name, event), query(position, event), edit()}. */
    constructor(act, modes) {
      this.act = act;
      this.modes = modes;
      this.title = el("h3", {});
      this.heads = el("div", { class: "heads", role: "group" });
      this.headsSaid = el("p", { class: "hint" });
      this.strip = el("div", { class: "strip", role: "group", "aria-label": "Prompt: choose the query" });
      this.canvas = el("canvas", { role: "img", click: (e) => this.#clicked(e), mousemove: (e) => this.#over(e) });
      this.canvas.addEventListener("mouseleave", () => this.#say());
      this.line = el("p", { class: "line", "aria-live": "polite" });
      this.law = el("div", { class: "law" });
      this.numbers = el("table", { class: "numbers" });
      this.scale = el("span", { class: "scale", "aria-hidden": "true" });
      this.notice = el("p", { class: "notice", hidden: true });
      const axes = " 1; rows: queries, columns: what they look at";
      this.body = el(
        "div",
        {},
        this.heads,
        this.headsSaid,
        this.numbers,
        this.strip,
        el(
          "div",
          { class: "look" },
          el(
            "figure",
            {},
            this.canvas,
            el("figcaption", {}, this.line, el("p", { class: "hint" }, "attention 0 ", this.scale, axes)),
          ),
          this.law,
        ),
      );
      this.root = el("article", { class: "pane" }, this.title, this.notice, this.body);
      this.headKey = "";
      this.tokenKey = "";
    }

    /** Something instead of the pane's content, or null. */
    say(text) {
      this.notice.hidden = text === null;
      this.notice.textContent = text ?? "";
      this.body.hidden = text !== null;
    }

    draw(view) {
      this.view = view;
      this.#drawTitle(view);
      this.say(view.notice);
      if (view.notice !== null) return;
      this.#drawHeads(view);
      this.#drawStrip(view);
      this.canvas.parentElement.hidden = view.pattern === null;
      if (view.pattern !== null) {
        this.place = mechdistillHeatmap.draw(this.canvas, view);
        this.scale.style.background = mechdistillHeatmap.gradient();
      }
      this.#say();
      this.#drawLaw(view);
      this.#drawNumbers(view);
    }

    #drawTitle({ run, checkpoint, colour }) {
      const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = colour;
      const where = `seed ${run.seed} · step ${checkpoint.step} · ${tokensSaid(checkpoint.tokens)}`;
      this.title.replaceChildren(swatch, el("strong", { text: run.arm }), ` ${where}`);
      this.root.setAttribute("aria-label", `${run.arm}, ${where}`);
    }

    #drawHeads({ shape, checkpoint, state, ranking, earlier }) {
      const key = `${shape.n_layers} ${shape.n_heads}`;
      if (key !== this.headKey) {
        this.headKey = key;
        this.cells = new Map();
        this.heads.style.setProperty("--heads", Math.max(1, shape.n_heads));
        this.heads.replaceChildren();
        for (let layer = 0; layer < shape.n_layers; layer++) {
          for (let head = 0; head < shape.n_heads; head++) this.heads.append(this.#headCell(layer, head));
        }
      }
      const { values, lookup_heads: lookups = [], earlier_heads: earliers = [] } = checkpoint.scores;
      const costs = checkpoint.effects[state.mode];
      for (const [name, cell] of this.cells) {
        const chosen = name === `L${state.layer}H${state.head}`, off = state.off.has(name);
        const scores = [ranking, earlier].map((score) => values?.[score.name]?.[name] ?? null);
        const cost = costs?.[name] ?? null;
        const role = [lookups.includes(name) && "lookup", earliers.includes(name) && "prev. token"].filter(Boolean);
        cell.root.classList.toggle("off", off);
        if (chosen && !cell.root.classList.contains("chosen")) this.#reveal(cell.root);
        cell.root.classList.toggle("chosen", chosen);
        cell.pick.setAttribute("aria-pressed", chosen);
        cell.role.textContent = role.length ? `${role.join(" + ")} head` : "";
        cell.values.textContent = `${number(scores[0], 2)} · ${number(scores[1], 2)} · ${number(cost, 2)}`;
        cell.pick.style.setProperty("--score", `${100 * Math.max(0, Math.min(1, scores[0] ?? 0))}%`);
        cell.pick.title =
          `${ranking.label} ${number(scores[0], 3)}, ${earlier.label} ${number(scores[1], 3)}, ` +
          `copy loss when knocked out ${cost === null ? "not measured here" : `${cost.toFixed(3)} nats`}`;
        cell.box.checked = off;
      }
      const mode = this.modes.find((each) => each.name === state.mode).label;
      this.headsSaid.textContent = shape.n_layers
        ? `Each head: ${ranking.label} · ${earlier.label} · nats of copy loss it costs (${mode}); – not measured.`
        : "";
    }

    /** Scroll the row of heads, and nothing else, to one. */
    #reveal({ offsetLeft: left, offsetWidth: width }) {
      const { heads } = this;
      const hidden = left < heads.scrollLeft || left + width > heads.scrollLeft + heads.clientWidth;
      if (hidden) heads.scrollLeft = left - width;
    }

    #headCell(layer, head) {
      const name = `L${layer}H${head}`;
      const role = el("span", { class: "role" }), values = el("span", { class: "values" });
      const pick = el(
        "button",
        { class: "pick", type: "button", click: (e) => this.act.choose(layer, head, e) },
        el("b", { text: name }),
        values,
        role,
      );
      const box = el("input", { type: "checkbox", change: (e) => this.act.toggle(name, e) });
      const off = el("label", {}, box, el("span", { text: "off" }));
      box.setAttribute("aria-label", `${name} off`);
      const root = el("div", { class: "head" }, pick, off);
      this.cells.set(name, { root, pick, role, values, box });
      return root;
    }

    #drawStrip({ tokens, names, labels, pattern, state }) {
      const key = tokens.length;
      if (key !== this.tokenKey) {
        this.tokenKey = key;
        this.strip.replaceChildren(
          ...names.map((_, position) =>
            el("button", {
              type: "button",
              click: (e) => this.act.query(position, e),
              dblclick: () => this.act.edit(),
            }),
          ),
        );
      }
      const n = tokens.length, sources = new Set(labels[state.pos].sources);
      [...this.strip.children].forEach((button, position) => {
        const label = labels[position];
        const weight = pattern === null ? 0 : pattern[state.pos * n + position];
        const colours = mechdistillHeatmap.colours(weight);
        button.textContent = names[position];
        button.style.background = colours.back;
        button.style.color = colours.text;
        button.className = [
          label.trigger && "trigger",
          label.copyable && "copyable",
          sources.has(position) && "source",
          position === state.pos && "query",
          position > state.pos && "ahead",
        ]
          .filter(Boolean)
          .join(" ");
        button.setAttribute("aria-pressed", position === state.pos);
        button.tabIndex = position === state.pos ? 0 : -1; // one stop for the keyboard; [ and ] move it
        const what = `${label.trigger ? `, trigger, occurrence ${label.occurrence}` : ""}`;
        const said = `position ${position}: token ${names[position]}${what}, attention ${share(weight)}`;
        button.title = said;
        button.setAttribute("aria-label", said);
      });
    }

    /** What the chosen query attends to, in words; or what the cell under the pointer holds. */
    #say(cell = null) {
      const { pattern, names, labels, state } = this.view;
      if (pattern === null || pattern === undefined) {
        this.line.textContent = "";
        return;
      }
      const n = names.length, query = cell?.query ?? state.pos, label = labels[query];
      const weight = (s) => pattern[query * n + s];
      const at = (s) => `${s} (${names[s]}${label.sources.includes(s) ? ", expected source" : ""}) ${share(weight(s))}`;
      const once = label.trigger ? "trigger, first time" : "no trigger";
      const what = label.copyable ? `copyable, occurrence ${label.occurrence}` : once;
      const who = `L${state.layer}H${state.head}, query ${query} (${names[query]}; ${what})`;
      if (cell !== null && cell.source !== null) {
        this.line.textContent = `${who} → ${at(cell.source)}`;
        return;
      }
      const order = Array.from({ length: query + 1 }, (_, s) => s).sort((a, b) => weight(b) - weight(a));
      this.line.textContent = `${who} attends most to ${order.slice(0, 3).map(at).join(", then ")}`;
      this.canvas.setAttribute("aria-label", `Attention pattern. ${this.line.textContent}`);
    }

    #drawLaw({ model, law, next, symbols, state }) {
      const best = (p) => Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, TOP);
      const listed = new Set([...best(model), ...(law === null ? [] : best(law).filter((t) => law[t] > 0))]);
      if (next !== null) listed.add(next);
      const high = (t) => Math.max(model[t], law === null ? 0 : law[t]);
      const rows = [...listed].sort((a, b) => high(b) - high(a)).map((token) => {
        const bar = (kind, p) => {
          const full = el("span", { class: `bar ${kind}` });
          full.style.width = `${100 * p}%`;
          full.hidden = p < 0.0005;
          return el("span", { class: "track" }, full, el("span", { class: "p", text: share(p) }));
        };
        return el(
          "div",
          { class: token === next ? "guess next" : "guess" },
          el("span", { class: "name", text: symbols[token] }),
          el("span", { class: "bars" }, bar("model", model[token]), law === null ? "" : bar("oracle", law[token])),
          el("span", { class: "tag", text: token === next ? "← next" : "" }),
        );
      });
      const key = [el("span", { class: "key model" }), " model "];
      if (law !== null) key.push(el("span", { class: "key oracle" }), " oracle");
      else key.push("(the oracle of so large a vocabulary is not embedded)");
      const head = el("h4", { text: `Next token after position ${state.pos}` });
      this.law.replaceChildren(head, el("p", { class: "hint" }, ...key), ...rows);
    }

    #drawNumbers({ now, intact, copyable }) {
      const columns = [
        [`copy accuracy (${copyable} copyable)`, "accuracy", 2],
        ["right target's probability", "probability", 3],
        ["KL to oracle, nats", "kl", 3],
      ];
      const row = (label, numbers) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", text: label }),
          ...columns.map(([, key, digits]) => el("td", { text: number(numbers[key], digits) })),
        );
      const heads = columns.map(([label]) => el("th", { scope: "col", text: label }));
      this.numbers.replaceChildren(
        el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "On this prompt" }), ...heads)),
        el("tbody", {}, row("now", now), row("all heads on", intact)),
      );
      this.numbers.classList.toggle("changed", now !== intact);
    }

    #clicked(event) {
      const cell = this.#cell(event);
      if (cell !== null) this.act.query(cell.query, event);
    }

    #over(event) {
      this.#say(this.#cell(event));
    }

    #cell(event) {
      return mechdistillHeatmap.cellAt(this.place, this.view.names.length, event.offsetX, event.offsetY);
    }
  }

  return { Pane, el, share, tokensSaid };
})();
