// Search as you type: a form with data-results="id" fetches that part as its fields change.

import { part } from "./fetching.js";

const PAUSE = 200; // milliseconds after the last key

export function attach(root, enliven) {
  for (const form of root.querySelectorAll("form[data-results]")) searchAsYouType(form, enliven);
}

function searchAsYouType(form, enliven) {
  const place = document.getElementById(form.dataset.results);
  let timer;
  let latest = 0;
  const look = async () => {
    const query = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...query]) if (!value) query.delete(name);
    const address = `${form.getAttribute("action")}?${query}`;
    const mine = ++latest;
    try {
      const html = await part(address);
      // A slow answer to an older question must not replace a newer one's.
      if (html === null || mine !== latest) return;
      place.innerHTML = html;
      history.replaceState(null, "", address);
      if (place.dataset.live) place.dataset.live = address;
      enliven(place);
    } catch { /* the button still works */ }
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    look();
  });
}
