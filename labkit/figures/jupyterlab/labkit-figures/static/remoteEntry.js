// A JupyterLab extension, written by hand as the module that JupyterLab's build would make of it.
// JupyterLab shows an SVG as <img>. Such a picture sees its page's theme only as the CSS color-scheme of its <img>, which
// JupyterLab does not set; nor does it bound its width.
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
.jp-RenderedSVG > img { max-width: 100%; height: auto; }
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
_JUPYTERLAB["labkit-figures"] = {
  init: async () => {},
  get: async () => () => ({
    __esModule: true,
    default: {
      id: "labkit-figures:style",
      autoStart: true,
      activate: () => {
        document.head.appendChild(document.createElement("style")).append(labkitStyle);
        window.addEventListener("keydown", labkitKeys, true);
        new MutationObserver(labkitGroups).observe(document.body, {childList: true, subtree: true});
      },
    },
  }),
};
