"use strict";
const rows = [...document.querySelectorAll("tbody tr")];
const boxes = [...document.querySelectorAll("input[name=verdict]")];
const search = document.querySelector("input[type=search]");
const shown = document.querySelector("#shown");
function filter() {
  const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const wanted = search.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const fits = verdicts.has(row.dataset.verdict) && row.textContent.toLowerCase().includes(wanted);
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = count;
}
for (const input of [...boxes, search]) input.addEventListener("input", filter);
filter();
