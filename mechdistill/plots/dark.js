// A figure's JSON, or a part of it, as a copy in the colours of a dark page (`dark` true) or of a light one.
// `DARK` is the table of light colours and their dark counterparts. It has no doubles, so that the way back is known:
// what a reader has chosen in a figure outlives a change of the page's colours. Only what stands under a key of
// colours is replaced, since a name or a symbol may look like one.
function recoloured(figure, dark) {
  const pairs = Object.entries(DARK).map(([light, night]) => (dark ? [light, night] : [night, light]));
  const table = new Map(pairs);
  const copy = (value, coloured) => {
    if (typeof value === "string") return coloured && table.has(value) ? table.get(value) : value;
    if (Array.isArray(value)) return value.map((part) => copy(part, coloured));
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, part]) => [key, copy(part, coloured || /color(scale|way)?$/.test(key))]),
    );
  };
  return copy(figure, false);
}

// Draw a figure at a place of a page, in the colours that the reader prefers; what they chose in it stays when these
// change.
function drawnAt(place, figure) {
  const night = matchMedia("(prefers-color-scheme: dark)");
  const config = { displaylogo: false, responsive: true, showSendToCloud: false };
  const draw = (now) => Plotly.react(place, { ...recoloured(now, night.matches), config });
  night.addEventListener("change", () => draw({ data: place.data, layout: place.layout, frames: figure.frames }));
  return draw(figure);
}
