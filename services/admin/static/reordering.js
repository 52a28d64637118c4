// A list that is put into order by dragging: an item that is dropped on another takes its place. The
// item's own form says so to the server; its buttons do the same for the keyboard, one place at a time.

export function attach(root) {
  for (const list of root.querySelectorAll("[data-reorderable]")) reorderable(list);
}

function reorderable(list) {
  const items = [...list.children];
  if (!items.every((item) => item.querySelector("form"))) return;
  let dragged = null;
  for (const [place, item] of items.entries()) {
    item.draggable = true;
    item.addEventListener("dragstart", (event) => {
      dragged = item;
      event.dataTransfer.effectAllowed = "move";
    });
    item.addEventListener("dragend", () => {
      dragged = null;
    });
    item.addEventListener("dragover", (event) => {
      if (dragged && dragged !== item) event.preventDefault();
    });
    item.addEventListener("drop", (event) => {
      if (!dragged || dragged === item) return;
      event.preventDefault();
      const form = dragged.querySelector("form");
      form.elements.namedItem("to").value = String(place + 1);
      form.requestSubmit();
    });
  }
}
