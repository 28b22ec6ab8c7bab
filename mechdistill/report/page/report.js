// The rest of the report: its figures, drawn by the plotly.js inside it in the colours that the reader prefers, words
// that explain themselves, and links to sections, which leave the hash of the address to the explorer.
"use strict";

(() => {
  // The words of a figure for those who do not see it: its title and how to read it.
  const described = (figure) => {
    const { text = "", subtitle = {} } = figure.layout.title ?? {};
    const markup = [text, subtitle.text ?? ""].join(". ").replace(/<br>/g, " ").replace(/<[^>]*>/g, "");
    return new DOMParser().parseFromString(markup, "text/html").body.textContent;  // entities
  };

  const drawAll = async (payload) => {
    const script = document.createElement("script");
    script.textContent = payload.text("plotly");
    document.head.append(script);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = JSON.parse(payload.text(`figure ${place.dataset.figure}`));
      place.setAttribute("aria-label", described(figure));
      await drawnAt(place, figure);
      await new Promise((done) => setTimeout(done));  // the explorer answers in between
    }
    document.documentElement.dataset.figures = "drawn";
  };

  const explain = () => {
    const tip = document.createElement("div");
    tip.id = "tip";
    tip.hidden = true;
    tip.setAttribute("aria-hidden", "true");  // the word itself says what describes it
    document.body.append(tip);
    const show = (event) => {
      const word = event.target.closest && event.target.closest("dfn");
      if (!word) return;
      tip.textContent = document.getElementById(word.getAttribute("aria-describedby")).textContent;
      tip.hidden = false;
      const place = word.getBoundingClientRect();
      const left = Math.max(8, Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 8));
      const below = place.bottom + tip.offsetHeight + 12 < window.innerHeight;
      tip.style.left = `${left + window.scrollX}px`;
      tip.style.top = `${(below ? place.bottom + 6 : place.top - tip.offsetHeight - 6) + window.scrollY}px`;
    };
    const hide = () => { tip.hidden = true; };
    for (const name of ["mouseover", "focusin"]) document.addEventListener(name, show);
    for (const name of ["mouseout", "focusout"]) document.addEventListener(name, hide);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  };

  for (const link of document.querySelectorAll("[data-goto]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const section = document.getElementById(link.dataset.goto);
      section.scrollIntoView({block: "start"});
      section.tabIndex = -1;
      section.focus({preventScroll: true});
    });
  }
  explain();
  loadPayload().then(drawAll);
})();
