"use strict";
// The language: the reader's own first, then what the switch says.
const root = document.documentElement;
const wanted = navigator.languages.map((name) => name.slice(0, 2)).find((name) => name === "ko" || name === "en");
const speak = (language) => {
  root.lang = language;
  for (const button of document.querySelectorAll("button[value]")) {
    button.setAttribute("aria-pressed", String(button.value === language));
  }
};
speak(wanted || "en");
for (const button of document.querySelectorAll("button[value]")) {
  button.addEventListener("click", () => speak(button.value));
}

// The numbers of a drawing, at the step under the pointer.
const people = (value) => {
  const size = Math.abs(value);
  if (size && (size < 1e-7 || size >= 1e15)) return value.toPrecision(4);
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
};
for (const drawing of document.querySelectorAll("svg[data-chart]")) {
  const chart = JSON.parse(drawing.dataset.chart);
  const figure = drawing.parentElement;
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  const cursor = drawing.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", "8");
  cursor.setAttribute("y2", "168");
  const show = (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.width;
    const [first, last] = chart.x;
    const x = first + ((at - chart.left) / (chart.right - chart.left)) * (last - first);
    const near = chart.series.map((one) => {
      const gaps = one.x.map((step) => Math.abs(step - x));
      return gaps.indexOf(Math.min(...gaps));
    });
    const steps = chart.series.map((one, index) => one.x[near[index]]);
    const step = steps.reduce((best, one) => (Math.abs(one - x) < Math.abs(best - x) ? one : best));
    tip.replaceChildren();
    const line = (text, kind) => {
      const row = tip.appendChild(document.createElement("div"));
      row.textContent = text;
      row.className = kind;
    };
    const language = root.lang === "ko" ? 1 : 0;
    line(`${chart.axis[language]} ${people(step)}`, "");
    chart.series.forEach((one, index) => {
      const own = steps[index] === step ? "" : ` (${people(steps[index])})`;
      line(`${one.name[language]} ${people(one.y[near[index]])}${own}`, `key k${index % 6}`);
    });
    const place = chart.left + ((step - first) / (last - first)) * (chart.right - chart.left);
    cursor.setAttribute("x1", String(place));
    cursor.setAttribute("x2", String(place));
    cursor.classList.add("shown");
    tip.hidden = false;
    const frame = figure.getBoundingClientRect();
    const middle = (place / chart.width) * box.width + box.left - frame.left;
    const room = figure.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, middle + (middle > room / 2 ? -tip.offsetWidth - 12 : 12)))}px`;
    tip.style.top = `${box.top - frame.top + 8}px`;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.classList.remove("shown");
  };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerdown", show);
  drawing.addEventListener("pointerleave", hide);
}
