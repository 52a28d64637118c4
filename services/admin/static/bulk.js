// Lists in which several are ticked: how many are, what can be done with them, and ranges with Shift.

import { part } from "./fetching.js";

export function attach(root) {
  for (const form of root.querySelectorAll("form[data-bulk]")) follow(form);
  for (const form of root.querySelectorAll("form[data-bulk-run]")) runInSteps(form);
}

function follow(form) {
  const bar = form.querySelector(".bulk");
  if (!bar) return;
  const boxes = [...form.querySelectorAll('input[type=checkbox][name="id"]')];
  const count = bar.querySelector("[data-bulk-count]");
  const every = bar.querySelector('input[name="every"]');
  let last = -1;
  const show = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    if (every && ticked < boxes.length) every.checked = false;
    bar.hidden = ticked === 0;
    const total = every?.checked ? every.dataset.total : ticked;
    count.textContent = `${total} ticked`;
  };
  form.addEventListener("click", (event) => {
    const at = boxes.indexOf(event.target);
    if (at < 0) return;
    if (event.shiftKey && last >= 0) {
      const [from, to] = at < last ? [at, last] : [last, at];
      for (const box of boxes.slice(from, to + 1)) box.checked = event.target.checked;
    }
    last = at;
  });
  form.addEventListener("change", (event) => {
    if (event.target === every && every.checked) for (const box of boxes) box.checked = true;
    show();
  });
  show();
}

// A few at a time, so that one sees how far it is and can stop. What is left stays in the form.
function runInSteps(form) {
  const field = form.elements.ids;
  const go = form.querySelector("[data-bulk-go]");
  const stop = form.querySelector("[data-bulk-stop]");
  const results = document.getElementById("bulk-results");
  const shown = document.querySelector("[data-bulk-progress]");
  const bar = shown.querySelector("progress");
  const words = shown.querySelector("[data-bulk-words]");
  const verb = go.textContent.split(" ")[0];
  let stopped = false;
  stop.addEventListener("click", () => { stopped = true; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const ids = field.value.split(",").filter(Boolean);
    const size = Number(form.dataset.bulkRun);
    const body = results.querySelector("tbody");
    const left = [];
    let at = 0;
    let trouble = "";
    stopped = false;
    body.replaceChildren();
    results.hidden = shown.hidden = stop.hidden = false;
    go.disabled = true;
    bar.max = ids.length;
    while (at < ids.length && !stopped && !trouble) {
      bar.value = at;
      words.textContent = `${at} of ${ids.length}`;
      const batch = ids.slice(at, at + size);
      const fields = new FormData(form);
      fields.set("ids", batch.join(","));
      try {
        const html = await part(form.getAttribute("action"), { method: "POST", body: fields });
        if (html === null) return;
        body.insertAdjacentHTML("beforeend", html);
        const wrong = body.querySelector("[data-bulk-error]");
        if (wrong) { trouble = wrong.textContent.trim(); wrong.remove(); break; }
        const rows = batch.map((id) => body.querySelector(`tr[data-id="${id}"]`));
        if (rows.includes(null)) throw new Error("not all were answered");
        for (const row of rows) {
          if (["asks", "failed"].includes(row.dataset.status)) left.push(row.dataset.id);
        }
        at += batch.length;
      } catch {
        trouble = "Posthouse did not answer. What is not listed below may be done or not: go on when it is back.";
      }
    }
    left.push(...ids.slice(at));
    bar.value = at;
    const done = ids.length - left.length;
    const said = [`${at} of ${ids.length} tried, ${done} done.`];
    if (stopped && at < ids.length) said.unshift("Stopped.");
    if (trouble) said.unshift(trouble);
    words.textContent = said.join(" ");
    stop.hidden = true;
    go.disabled = left.length === 0;
    field.value = left.join(",");
    go.textContent = left.length ? `${verb} the ${left.length === 1 ? "one that is" : `${left.length} that are`} left` : "All done";
  });
}
