"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: sort by a heading, keep the rows that hold what is typed, show the other columns.
function sortBy(table, index, header) {
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[index].dataset.sort ?? row.cells[index].textContent.trim();
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const numeric = x - y;
    const order = Number.isNaN(numeric) ? x.localeCompare(y, undefined, { numeric: true }) : numeric;
    return up ? order : -order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}
for (const table of all("table.sortable"))
  [...table.tHead.rows[0].cells].forEach((header, index) =>
    header.querySelector("button").addEventListener("click", () => sortBy(table, index, header)));

function keepMatching(input) {
  const target = document.getElementById(input.dataset.for);
  const parts = target.tBodies ? [...target.tBodies[0].rows] : [...target.children];
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const part of parts) {
    const text = (target.tBodies ? part.textContent : part.dataset.find).toLowerCase();
    part.hidden = !words.every(word => text.includes(word));
    shown += !part.hidden;
  }
  const output = input.closest(".tools").querySelector("output");
  output.textContent = words.length ? `${shown} of ${parts.length}` : "";
}
for (const input of all("input[type=search]")) {
  input.addEventListener("input", () => keepMatching(input));
  if (input.value) keepMatching(input);
}
for (const toggle of all("button[data-columns]"))
  toggle.addEventListener("click", () => {
    const shown = document.getElementById(toggle.dataset.columns).classList.toggle("all");
    toggle.textContent = shown ? "Show the main columns" : "Show all columns";
  });
for (const button of all("button[data-open]"))
  button.addEventListener("click", () => {
    for (const part of all(".slides > details:not([hidden])")) part.open = button.dataset.open === "yes";
  });

// Pictures: a dialog to zoom (wheel, + and -, two fingers) and to pan (drag, arrows) in.
const dialog = document.getElementById("zoom"), stage = dialog.querySelector(".stage"), picture = stage.querySelector("img");
const view = { scale: 1, x: 0, y: 0 };
const pointers = new Map();
function place() { picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`; dialog.dataset.scale = view.scale.toFixed(3); }
function fit() {
  const least = Math.min(stage.clientWidth / picture.naturalWidth, stage.clientHeight / picture.naturalHeight);
  view.scale = Math.min(least, 4);
  view.x = (stage.clientWidth - picture.naturalWidth * view.scale) / 2;
  view.y = (stage.clientHeight - picture.naturalHeight * view.scale) / 2;
  place();
}
function zoomAt(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.05), 40), real = scale / view.scale;
  view.x = x - (x - view.x) * real; view.y = y - (y - view.y) * real; view.scale = scale;
  place();
}
function pan(x, y) { view.x += x; view.y += y; place(); }
for (const button of all(".zoomable"))
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    dialog.querySelector("b").textContent = image.alt;
    picture.alt = image.alt;
    picture.src = image.src;
    dialog.showModal();
    picture.decode().then(fit, fit);
  });
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoomAt(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
stage.addEventListener("pointerdown", event => { stage.setPointerCapture(event.pointerId); pointers.set(event.pointerId, event); });
stage.addEventListener("pointermove", event => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  if (pointers.size === 1) pan(event.clientX - before.clientX, event.clientY - before.clientY);
  else {
    const other = [...pointers.values()].find(p => p.pointerId !== event.pointerId), box = stage.getBoundingClientRect();
    const span = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
    zoomAt(span(event) / span(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
  }
  pointers.set(event.pointerId, event);
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, event => pointers.delete(event.pointerId));
const actions = { in: () => zoomAt(1.5), out: () => zoomAt(1 / 1.5), fit, close: () => dialog.close() };
for (const button of all("[data-do]", dialog)) button.addEventListener("click", () => actions[button.dataset.do]());
const keys = { "+": actions.in, "=": actions.in, "-": actions.out, "0": fit, ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60) };
dialog.addEventListener("keydown", event => { if (keys[event.key]) { event.preventDefault(); keys[event.key](); } });

// A link to a slide opens it, and shows it where it was filtered away.
function openTarget() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* a stray %: the name as it is */ }
  const part = document.getElementById(name);
  if (part && part.tagName === "DETAILS") { part.hidden = false; part.open = true; part.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
