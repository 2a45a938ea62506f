"use strict";

// What is wider than the page scrolls by keyboard, too.
const wide = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document.querySelectorAll("pre, .table-wrapper, .wide:not(figure)").forEach((each) => wide.observe(each));

// The quizzes: shows the verdict, which the page holds in a <template>, on what the reader chose.

for (const form of document.querySelectorAll("form.quiz")) {
  const verdict = form.querySelector(".quiz-verdict");
  const show = (...parts) => verdict.replaceChildren(...parts);
  const content = (selector) => form.querySelector(selector).content.cloneNode(true);
  for (const button of form.querySelectorAll("button[hidden]")) button.hidden = false;

  if (form.querySelector("template[data-order]")) {
    order(form, show, content);
    continue;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(content(`template[data-answer="${new FormData(form).get(form.dataset.quiz)}"]`));
  });
}

// Steps get their places in the order in which they are clicked; a second click takes a step out again.
function order(form, show, content) {
  const buttons = [...form.querySelectorAll("button[data-step]")];
  let chosen = [];
  const draw = () => {
    for (const button of buttons) {
      button.dataset.text ??= button.textContent;
      const place = chosen.indexOf(button) + 1;
      button.textContent = place ? `${place}. ${button.dataset.text}` : `–  ${button.dataset.text}`;
      button.title = place ? `place ${place}: click to take it out` : "click to give it the next place";
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen = chosen.includes(button) ? chosen.filter((each) => each !== button) : [...chosen, button];
      draw();
    });
  }
  form.addEventListener("reset", () => {
    chosen = [];
    show();
    draw();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen.length < buttons.length) {
      show(`Give each of the ${buttons.length} steps its place first: ${buttons.length - chosen.length} have none.`);
      return;
    }
    const steps = chosen.map((button) => Number(button.dataset.step));
    const whole = content("template[data-order]");
    whole.querySelector("[data-right]").textContent = steps.filter((step, place) => step === place).length;
    for (const swap of form.querySelectorAll("template[data-first]")) {
      if (steps.indexOf(Number(swap.dataset.first)) < steps.indexOf(Number(swap.dataset.then))) {
        whole.querySelector("[data-swaps]").append(swap.content.cloneNode(true));
      }
    }
    show(whole);
  });
  draw();
}
