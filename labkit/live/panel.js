// A live panel: head with buttons, a sentence about the node, the table of Pods, the figure, and who tells of changes.
// The page's extension (labkit/figures/jupyterlab) opens the panel beside the notebook; without it that button is not shown.

function render({model, el}) {
  const panel = element("section", "labkit-live");
  panel.setAttribute("aria-label", model.get("title"));
  const head = element("div", "labkit-head");
  const beside = button("Beside the notebook", () => panel.dispatchEvent(new CustomEvent("labkit-beside", {bubbles: true})));
  beside.classList.add("labkit-beside");
  const again = button("Look again", () => model.send({do: "look"}));
  const close = button("Close", () => model.send({do: "close"}));
  head.append(element("strong", "labkit-title", model.get("title")), again, beside, close);
  const status = element("p", "labkit-status");
  status.setAttribute("role", "status");
  const table = element("div", "labkit-table");
  const picture = element("div", "labkit-picture");
  const follows = element("p", "labkit-follows");
  panel.append(head, status, table, picture, follows);
  el.append(panel);

  const fill = (place, html) => {
    if (place.dataset.has === html) return;
    const at = [place.scrollTop, place.scrollLeft];
    place.dataset.has = "";
    place.innerHTML = html;
    place.dataset.has = html;
    [place.scrollTop, place.scrollLeft] = at;
    scrolls(place);
  };
  // Whoever cannot use a mouse scrolls with the arrow keys, for which the place must take the focus.
  const scrolls = (place) => {
    const more = place.scrollHeight > place.clientHeight + 1 || place.scrollWidth > place.clientWidth + 1;
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", model.get("title")]])
      more ? place.setAttribute(name, value) : place.removeAttribute(name);
  };
  const draw = () => {
    fill(table, model.get("table"));
    fill(picture, model.get("picture"));
    table.hidden = !model.get("table");
    if (status.textContent !== model.get("status")) status.textContent = model.get("status");
    status.hidden = !model.get("status");
    follows.textContent = model.get("closed") ? "" : model.get("follows");
    panel.classList.toggle("labkit-closed", model.get("closed"));
    again.hidden = !model.get("manual") || model.get("closed");
    close.hidden = model.get("closed");
  };
  model.on("change", draw);
  draw();

  let wide = 0;
  const watch = new ResizeObserver(() => {
    const room = Math.floor(panel.clientWidth / 20) * 20 - 20;
    if (room > 0 && room !== wide) model.send({do: "width", px: wide = room});
    scrolls(picture);
    scrolls(table);
  });
  watch.observe(panel);
  return () => { watch.disconnect(); model.off("change", draw); };
}
export default {render};
