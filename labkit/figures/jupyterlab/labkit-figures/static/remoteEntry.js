// A JupyterLab extension, written by hand as the module that JupyterLab's build would make of it.
// JupyterLab shows an SVG as <img>. Such a picture sees its page's theme only as the CSS color-scheme of its <img>, which
// JupyterLab does not set; nor does it bound its width, nor give it a text for those who do not see it. Here an <img> gets the
// figure's own text, and of the figure's variants (labkit/figures/written.py) the one that the page has room for.
// Prose is set in lines of at most 75 letters, at a size for reading.
// ipywidgets' radio buttons have no name, so that the arrow keys do not move between them, and nothing says to which question
// they belong. A quiz (labkit/course/predict.py) gets both here, and its options wrap where the page is narrow.
// A PNG (shown while a notebook is not trusted) has one set of colours; turned over, they suit a dark page.
var _JUPYTERLAB = window._JUPYTERLAB = window._JUPYTERLAB || {};
const labkitStyle = `
.labkit-quiz .widget-radio-box label { height: auto; display: flex; align-items: baseline; flex-direction: row-reverse;
  justify-content: flex-end; }
.labkit-quiz .widget-radio-box input { height: auto; flex: none; }
.labkit-quiz .widget-html-content { line-height: 1.4; white-space: normal; }
.labkit-quiz :focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
.jp-RenderedSVG, .jp-RenderedImage { overflow-x: auto; }
.jp-RenderedSVG > img, .jp-RenderedImage > img { max-width: 100%; height: auto; }
.jp-Notebook .jp-RenderedMarkdown { font-size: 15px; line-height: 1.55; }
.jp-Notebook .jp-RenderedMarkdown > :is(p, ul, ol, blockquote, details) { max-width: 53ch; }
.jp-Notebook .jp-RenderedMarkdown :is(code, h1, h2, h3) { overflow-wrap: anywhere; }
.jp-Notebook .jp-RenderedMarkdown table { display: block; overflow-x: auto; }
.jp-Notebook .jp-RenderedMarkdown details { margin-bottom: 1em; }
.jp-Notebook .jp-RenderedMarkdown details[open] > summary { margin-bottom: 0.5em; }
[data-jp-theme-light="true"] .jp-RenderedSVG > img { color-scheme: light; }
[data-jp-theme-light="false"] .jp-RenderedSVG > img { color-scheme: dark; }
[data-jp-theme-light="false"] .jp-RenderedImage > img.jp-needs-light-background { filter: invert(0.93) hue-rotate(180deg); }
`;
let labkitQuizzes = 0;
const labkitGroups = () => {
  for (const quiz of document.querySelectorAll(".labkit-quiz:not([role])")) {
    const inputs = quiz.querySelectorAll('input[type="radio"]');
    const question = quiz.querySelector(".widget-html-content")?.textContent;
    if (!question || !quiz.querySelector("input, button")) continue;  // not all of it is drawn yet
    quiz.setAttribute("role", inputs.length ? "radiogroup" : "group");
    quiz.setAttribute("aria-label", question);
    labkitQuizzes += 1;
    inputs.forEach((input) => input.setAttribute("name", `labkit-quiz-${labkitQuizzes}`));
  }
};
// JupyterLab would take these keys for the notebook; Shift-Enter stays its own. It looks for the attribute from the target upwards.
const labkitKeys = (event) => {
  const own = /^(Arrow.*| |Tab)$/.test(event.key) || (event.key === "Enter" && !event.shiftKey && !event.ctrlKey);
  if (event.target.closest?.(".labkit-quiz")) event.target.toggleAttribute("data-lm-suppress-shortcuts", own);
};
const labkitSmallest = 10 / 11;  // so much smaller than designed a figure may be shown: letters of 11 px then have 10
const labkitText = (url) => {
  const data = url.slice(url.indexOf(",") + 1);
  return url.slice(0, url.indexOf(",")).endsWith(";base64") ? atob(data) : decodeURIComponent(data);
};
// A PNG is a signature and chunks: length, type, data, checksum. Its text is an iTXt chunk: keyword, flags, languages, UTF-8.
const labkitDescription = (png) => {
  const bytes = Uint8Array.from(png, (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const chunk = bytes.subarray(at + 8, at + 8 + view.getUint32(at));
    if (png.slice(at + 4, at + 8) === "iTXt" && png.startsWith("Description\0", at + 8)) {
      let begin = 14;  // after the keyword, its end, and two flags
      for (let ends = 0; ends < 2; begin += 1) ends += chunk[begin] === 0;
      return new TextDecoder().decode(chunk.subarray(begin));
    }
  }
  return "";
};
const labkitChoose = (image, variants) => {
  const room = image.parentElement?.clientWidth;
  if (!room) return;
  const fitting = variants.find(({width}) => width * labkitSmallest <= room) ?? variants.at(-1);
  image.style.minWidth = `${Math.min(fitting.width * labkitSmallest, fitting.width)}px`;
  if (image.src !== fitting.src) image.src = fitting.src;
};
const labkitDrawings = () => {
  for (const image of document.querySelectorAll(":is(.jp-RenderedSVG, .jp-RenderedImage) > img:not([data-labkit])")) {
    if (!image.src.startsWith("data:image/")) continue;
    image.setAttribute("data-labkit", "");
    if (image.src.startsWith("data:image/png")) {
      image.alt ||= labkitDescription(labkitText(image.src));
      continue;
    }
    const root = new DOMParser().parseFromString(labkitText(image.src), "image/svg+xml").documentElement;
    image.alt ||= root.querySelector(":scope > desc")?.textContent ?? "";
    const narrow = [...root.querySelectorAll(':scope > svg[display="none"]')];
    for (const each of narrow) each.remove();
    const variants = [root, ...narrow].map((each) => {
      each.removeAttribute("display");
      const svg = new XMLSerializer().serializeToString(each);
      return {width: parseFloat(each.getAttribute("width")) * 96 / 72, src: `data:image/svg+xml,${encodeURIComponent(svg)}`};
    });
    new ResizeObserver(() => labkitChoose(image, variants)).observe(image.parentElement);
    labkitChoose(image, variants);
  }
};
const labkitLook = () => { labkitGroups(); labkitDrawings(); };
_JUPYTERLAB["labkit-figures"] = {
  init: async () => {},
  get: async () => () => ({
    __esModule: true,
    default: {
      id: "labkit-figures:style",
      autoStart: true,
      activate: (app) => {
        // On a phone the list of files would leave no room for the notebook.
        const makeRoom = () => { if (window.innerWidth < 600) app.shell.collapseLeft?.(); };
        app.restored.then(makeRoom);
        window.addEventListener("resize", makeRoom);
        document.head.appendChild(document.createElement("style")).append(labkitStyle);
        window.addEventListener("keydown", labkitKeys, true);
        new MutationObserver(labkitLook).observe(document.body, {childList: true, subtree: true});
      },
    },
  }),
};
