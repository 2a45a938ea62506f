// What panels and replays are made of: widgets.py puts it before either program.
const element = (kind, name, text = "") => Object.assign(document.createElement(kind), {className: name, textContent: text});
const button = (text, press) => {
  const made = element("button", "labkit-button", text);
  made.type = "button";
  made.addEventListener("click", press);
  return made;
};

