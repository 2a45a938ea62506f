// A JupyterLab extension, written by hand as the module that JupyterLab's build would make of it.
// JupyterLab shows an SVG as <img>. Such a picture sees its page's theme only as the CSS color-scheme of its <img>, which
// JupyterLab does not set; nor does it bound its width, nor give it a text for those who do not see it. Here an <img> gets the
// figure's own text, and of the figure's variants (labkit/figures/written.py) the one that the page has room for.
// Prose is set in lines of at most 75 letters, at a size for reading.
// ipywidgets' radio buttons have no name, so that the arrow keys do not move between them, and nothing says to which question
// they belong. A quiz (labkit/course/predict.py) gets both here, and its options wrap where the page is narrow.
// A command in the prose (`labkit ps`) gets a button that copies it, and types it into the terminal where one is open.
// A live panel (labkit/live) opens beside the notebook: as JupyterLab's own "Create New View for Cell Output", above a terminal.
// ./course start opens JupyterLab in the workspace "course": the notebook, a terminal right of it, the lessons in the left bar.
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
.labkit-copy { border: 0; background: none; color: inherit; font: inherit; line-height: 1; padding: 2px 4px; cursor: pointer; min-width: 24px;
  min-height: 24px; }
.labkit-copy::before { content: ""; display: inline-block; width: 13px; height: 13px; background: currentColor;
  mask: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 13 13' fill='none' stroke='black' stroke-width='1.3'%3E\
%3Cpath d='M4.5 4.5h7v7h-7zM8.5 4.5v-3h-7v7h3'/%3E%3C/svg%3E"); }
.labkit-copy.labkit-done::before { mask: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 13 13' fill='none' \
stroke='black' stroke-width='1.8'%3E%3Cpath d='M2 7l3 3.5 6-8'/%3E%3C/svg%3E"); }
.labkit-copy:focus-visible, .labkit-course a:focus-visible { outline: 2px solid currentColor; outline-offset: 1px; }
.labkit-course { overflow: auto; background: var(--jp-layout-color1); color: var(--jp-ui-font-color0); font-size: var(--jp-ui-font-size1); }
.labkit-course h2 { font-size: var(--jp-ui-font-size2); margin: 12px 12px 4px; }
.labkit-course ol { list-style: none; margin: 0; padding: 0 4px; }
.labkit-course a { display: block; padding: 6px 8px; color: inherit; text-decoration: none; line-height: 1.35; overflow-wrap: anywhere; }
.labkit-course a:hover, .labkit-course a[aria-current] { background: var(--jp-layout-color2); }
.labkit-course a[aria-current] { font-weight: bold; }
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
const LABKIT_OWN = ".labkit-quiz, .labkit-live, .labkit-menu, .labkit-copy";
// JupyterLab would take these keys for the notebook; Shift-Enter stays its own. It looks for the attribute from the target upwards.
const labkitKeys = (event) => {
  const own = /^(Arrow.*| |Tab|Home|End)$/.test(event.key) || (event.key === "Enter" && !event.shiftKey && !event.ctrlKey);
  if (event.target.closest?.(LABKIT_OWN)) event.target.toggleAttribute("data-lm-suppress-shortcuts", own);
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
const labkitTerminal = (app) => [...app.shell.widgets("main")].find((each) => each.node.querySelector(".jp-Terminal"));
const labkitNotebook = (app) => [...app.shell.widgets("main")].find((each) => each.node.classList.contains("jp-NotebookPanel"));
const labkitCommands = (app) => {
  for (const code of document.querySelectorAll(".jp-Notebook .jp-RenderedMarkdown code:not([data-labkit])")) {
    code.setAttribute("data-labkit", "");
    const command = code.textContent.trim();
    if (!/^(sudo +)?(\.venv\/bin\/)?(labkit|kubectl|crictl|ctr|\.\/course) +\S/.test(command) || code.closest("a, summary")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "labkit-copy";
    button.title = "Copy, and type into the terminal if one is open";
    button.setAttribute("aria-label", `Copy ${command}, and type it into the terminal if one is open`);
    button.addEventListener("click", async () => {
      const terminal = labkitTerminal(app);
      terminal?.content.session.send({type: "stdin", content: [command]});  // without Enter: that is the learner's
      await navigator.clipboard?.writeText(command).catch(() => {});
      if (terminal) app.shell.activateById(terminal.id);
      button.classList.add("labkit-done");
      setTimeout(() => button.classList.remove("labkit-done"), 1500);
    });
    code.after(button);
  }
};
const labkitBeside = async (app) => {
  const before = new Set(app.shell.widgets("main"));
  await app.commands.execute("notebook:create-output-view");
  const made = [...app.shell.widgets("main")].find((each) => !before.has(each));
  const terminal = labkitTerminal(app);
  if (!made || window.innerWidth < LABKIT_NARROW) return;
  const place = terminal ? {mode: "split-top", ref: terminal.id} : {mode: "split-right", ref: labkitNotebook(app)?.id};
  app.shell.add(made, "main", {...place, activate: false});
};
// The lessons with their whole titles. A file's name would be cut, and is not the title.
const labkitLessons = async (app) => {
  const contents = app.serviceManager.contents;
  const lessons = (files) => files.filter(({type, name}) => type === "notebook" && /^\d\d-/.test(name));
  let {content} = await contents.get("", {content: true});
  for (const folder of lessons(content).length ? [] : content.filter(({type}) => type === "directory")) {
    const inside = (await contents.get(folder.path, {content: true})).content;
    if (lessons(inside).length) { content = inside; break; }
  }
  const found = lessons(content).sort((one, other) => one.name.localeCompare(other.name));
  return Promise.all(found.map(async ({path, name}) => {
    const {content: notebook} = await contents.get(path, {content: true});
    const text = [notebook.cells[0]?.source ?? ""].flat().join("");
    return {path, title: /^# (.*)$/m.exec(text)?.[1] ?? name};
  }));
};
// A browser gives a request up when an address of the machine changes, as a Pod's start may have it do.
const labkitAgain = async (act, times = 3) => {
  try {
    return await act();
  } catch (error) {
    if (times <= 1) throw error;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return labkitAgain(act, times - 1);
  }
};
const labkitCourse = async (app) => {
  const Widget = Object.getPrototypeOf(app.shell.constructor);  // Lumino's, which the shell is one of
  const panel = new Widget();
  panel.id = "labkit-course";
  panel.addClass("labkit-course");
  panel.title.label = "Course";
  panel.title.caption = "The lessons of the course";
  const list = document.createElement("ol");
  for (const {path, title} of await labkitAgain(() => labkitLessons(app))) {
    const link = Object.assign(document.createElement("a"), {href: `#${path}`, textContent: title});
    link.addEventListener("click", (event) => {
      event.preventDefault();
      app.commands.execute("docmanager:open", {path});
    });
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
  if (!list.childElementCount) return;
  panel.node.setAttribute("aria-label", "The lessons of the course");
  panel.node.setAttribute("role", "navigation");
  panel.node.append(Object.assign(document.createElement("h2"), {textContent: "Inside the Node"}), list);
  const mark = () => {
    const path = app.shell.currentWidget?.context?.path;
    for (const link of list.querySelectorAll("a"))
      link.getAttribute("href") === `#${path}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  };
  app.shell.currentChanged?.connect(mark);
  app.shell.add(panel, "left", {rank: 50});
  mark();
};
const LABKIT_NARROW = 960;  // below this a left bar, or a terminal beside it, leaves too little room for the notebook
const labkitWorkspace = async (app) => {
  if (!/\/workspaces\/course(\/|$)/.test(window.location.pathname) || window.innerWidth < LABKIT_NARROW) return;
  app.shell.activateById("labkit-course");
  if (labkitTerminal(app) || !app.commands.hasCommand("terminal:create-new")) return;
  await new Promise((resolve) => {  // the notebook of the address is opened after the layout was restored
    const look = () => {
      if (!labkitNotebook(app)) return;
      app.shell.layoutModified.disconnect(look);
      resolve();
    };
    app.shell.layoutModified.connect(look);
    look();
  });
  const terminal = await labkitAgain(() => app.commands.execute("terminal:create-new"));
  const notebook = labkitNotebook(app);
  app.shell.add(terminal, "main", {mode: "split-right", ref: notebook?.id});
  if (notebook) app.shell.activateById(notebook.id);
};
const labkitLook = (app) => { labkitGroups(); labkitDrawings(); labkitCommands(app); };
_JUPYTERLAB["labkit-figures"] = {
  init: async () => {},
  get: async () => () => ({
    __esModule: true,
    default: {
      id: "labkit-figures:style",
      autoStart: true,
      activate: (app) => {
        // In a small window the left bar would leave no room for the notebook.
        const makeRoom = () => { if (window.innerWidth < LABKIT_NARROW) app.shell.collapseLeft?.(); };
        app.restored.then(async () => {
          if (app.commands.hasCommand("notebook:create-output-view")) document.body.setAttribute("data-labkit-beside", "");
          await labkitCourse(app).catch((error) => console.warn("The list of lessons could not be made.", error));
          makeRoom();
          await labkitWorkspace(app);
        });
        window.addEventListener("labkit-beside", () => labkitBeside(app));
        window.addEventListener("resize", makeRoom);
        document.head.appendChild(document.createElement("style")).append(labkitStyle);
        window.addEventListener("keydown", labkitKeys, true);
        new MutationObserver(() => labkitLook(app)).observe(document.body, {childList: true, subtree: true});
      },
    },
  }),
};
