// A replay: the figure of the recording lies under a cover that draws back to the right as time goes on.
const SVG = "http://www.w3.org/2000/svg";
const SPEEDS = [0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];
const LONGEST_WAIT_MS = 3000;  // a longer time without an event is not waited for while playing
const BEFORE_MS = 1;
const at = (points, ms) => {
  const next = points.findIndex(([time]) => time >= ms);
  if (next <= 0) return next ? points.at(-1)[1] : points[0][1];
  const [[t0, x0], [t1, x1]] = [points[next - 1], points[next]];
  return x0 + (x1 - x0) * (ms - t0) / Math.max(t1 - t0, 1e-9);
};

function render({model, el}) {
  const moments = model.get("moments"), variants = model.get("variants");
  const last = moments.length;
  const panel = element("section", "labkit-live labkit-replay");
  panel.setAttribute("aria-label", "Replay of a recording");
  const controls = element("div", "labkit-controls");
  const back = button("Back", () => step(-1)), forward = button("Forward", () => step(1));
  const play = button("Play", () => (playing ? pause() : begin()));
  const slider = Object.assign(element("input", "labkit-slider"), {type: "range", min: 0, max: last, step: 1, value: last});
  slider.setAttribute("aria-label", "Event");
  const speed = element("select", "labkit-speed");
  speed.setAttribute("aria-label", "Speed");
  const chosen = model.get("speed");
  for (const each of [...new Set([...SPEEDS, chosen])].sort((a, b) => a - b)) {
    const text = each === 1 ? "as it was" : each < 1 ? `${+(1 / each).toPrecision(3)} × slower` : `${each} × faster`;
    speed.append(new Option(text, each, each === chosen, each === chosen));
  }
  controls.append(back, play, forward, slider, speed);
  const words = element("p", "labkit-words");
  words.setAttribute("role", "status");
  const picture = element("div", "labkit-picture");
  panel.append(controls, words, picture);
  el.append(panel);
  if (!last) for (const each of [back, play, forward, slider, speed]) each.disabled = true;

  let index = last, now = last ? moments[last - 1][0] : 0, playing = 0, covers = [];
  const cover = () => {
    for (const [{points, right}, rect, line] of covers) {
      const x = index === last && !playing ? right : index ? at(points, now) : points[0][1];
      rect.setAttribute("x", x);
      rect.setAttribute("width", Math.max(right - x, 0));
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
  };
  const show = () => {
    const text = !last ? "Nothing was recorded." : index ? `${index} of ${last}: ${moments[index - 1][1]}, at ${moments[index - 1][0].toFixed(1)} ms`
      : `0 of ${last}: before the first event`;
    words.textContent = text;
    slider.value = index;
    slider.setAttribute("aria-valuetext", text);
    back.disabled = index === 0;
    forward.disabled = index === last;
    cover();
  };
  const go = (to) => {
    index = Math.min(Math.max(to, 0), last);
    now = index ? moments[index - 1][0] : (moments[0]?.[0] ?? 0) - BEFORE_MS;
    show();
  };
  const step = (by) => { pause(); go(index + by); };
  const pause = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    play.textContent = "Play";
    words.setAttribute("aria-live", "polite");
  };
  const begin = () => {
    if (!last) return;
    if (index === last) go(0);
    play.textContent = "Pause";
    words.setAttribute("aria-live", "off");  // nobody can listen to twenty events a second
    let before = performance.now();
    const frame = (time) => {
      const pace = Number(speed.value);
      now += Math.max(time - before, 0) * pace;
      before = time;
      const next = moments[index]?.[0];
      if (next - now > LONGEST_WAIT_MS * pace) now = next;
      const had = index;
      while (index < last && moments[index][0] <= now) index += 1;
      index === had ? cover() : show();
      if (index === last) { pause(); show(); } else playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  };
  slider.addEventListener("input", () => { const to = Number(slider.value); pause(); go(to); });
  panel.addEventListener("keydown", (event) => {
    if (event.target === speed || event.ctrlKey || event.altKey || event.metaKey) return;
    const acts = {ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => step(-last), End: () => step(last)};
    const act = acts[event.key] ?? (event.key === " " && event.target.tagName !== "BUTTON" ? () => play.click() : null);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });

  let drawn = null;
  const draw = () => {
    const room = panel.clientWidth - 16;
    const fitting = variants.find(({width}) => width <= room * 1.1) ?? variants.at(-1);
    if (room <= 0 || fitting === drawn) return;
    drawn = fitting;
    picture.innerHTML = fitting.svg;
    const svg = picture.firstElementChild;
    svg.style.maxWidth = "100%";
    covers = fitting.axes.map((axis) => {
      const rect = document.createElementNS(SVG, "rect"), line = document.createElementNS(SVG, "line");
      for (const [name, value] of [["y", axis.top - 4], ["height", axis.bottom - axis.top + 4], ["fill", "#ffffff"], ["fill-opacity", 0.86]])
        rect.setAttribute(name, value);
      for (const [name, value] of [["y1", axis.top - 4], ["y2", axis.bottom], ["stroke", "#1a1a1a"], ["stroke-width", 1.5]])
        line.setAttribute(name, value);
      svg.append(rect, line);
      return [axis, rect, line];
    });
    cover();
  };
  const watch = new ResizeObserver(draw);
  watch.observe(panel);
  show();
  return () => { pause(); watch.disconnect(); };
}
export default {render};
