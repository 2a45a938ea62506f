// A JupyterLab extension of one style sheet, written by hand as the module that JupyterLab's build would make of it.
// JupyterLab shows an SVG as <img>. Such a picture sees its page's theme only as the CSS color-scheme of its <img>, which
// JupyterLab does not set; nor does it bound its width.
// A PNG (shown while a notebook is not trusted) has one set of colours; turned over, they suit a dark page.
var _JUPYTERLAB = window._JUPYTERLAB = window._JUPYTERLAB || {};
const labkitStyle = `
.jp-RenderedSVG > img { max-width: 100%; height: auto; }
[data-jp-theme-light="true"] .jp-RenderedSVG > img { color-scheme: light; }
[data-jp-theme-light="false"] .jp-RenderedSVG > img { color-scheme: dark; }
[data-jp-theme-light="false"] .jp-RenderedImage > img.jp-needs-light-background { filter: invert(0.93) hue-rotate(180deg); }
`;
_JUPYTERLAB["labkit-figures"] = {
  init: async () => {},
  get: async () => () => ({
    __esModule: true,
    default: {
      id: "labkit-figures:style",
      autoStart: true,
      activate: () => document.head.appendChild(document.createElement("style")).append(labkitStyle),
    },
  }),
};
