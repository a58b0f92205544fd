"use strict";

// Everything works without this file: it offers only the reasons that fit a decision, and jumps to a stretch of the clip.

const form = document.getElementById("decision");
if (form) {
  const reason = document.getElementById("reason");
  const fit = () => {
    const action = new FormData(form).get("action");
    for (const option of reason.options) {
      const fits = !option.value || !action || option.dataset.actions.split(" ").includes(action);
      option.disabled = option.hidden = !fits;
      if (!fits && option.selected) reason.value = "";
    }
  };
  form.addEventListener("change", fit);
  fit();
}

const clip = document.getElementById("clip");
if (clip) {
  for (const button of document.querySelectorAll("button.seek")) {
    button.hidden = false;
    button.nextElementSibling.hidden = true;
    button.addEventListener("click", () => {
      const seek = () => { clip.currentTime = Number(button.dataset.seek); };
      if (clip.readyState > 0) seek();
      else {
        clip.addEventListener("loadedmetadata", seek, { once: true });
        clip.preload = "metadata";
        clip.load();
      }
      clip.scrollIntoView({ block: "nearest" });
    });
  }
}
