const focus = document.getElementById("focus");
const frames = focus.querySelectorAll(".frames img");
const labels = JSON.parse(focus.dataset.labels);
const slider = focus.querySelector("input");
slider.addEventListener("input", () => {
  frames.forEach((frame, k) => { frame.hidden = k !== Number(slider.value); });
  focus.querySelector("output").textContent = labels[slider.value];
});
