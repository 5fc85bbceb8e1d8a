"use strict";

// One player per animation. Each plays while it is in view, until the reader takes over.
function start(player) {
  const labels = JSON.parse(player.dataset.labels);
  const durations = JSON.parse(player.dataset.durations);
  const panels = [...player.querySelectorAll(".frames")].map(
    (frames) => [...frames.querySelectorAll("[data-first]")],
  );
  const time = player.querySelector(".time");
  const play = player.querySelector(".play");
  const slider = player.querySelector("input");
  const speed = player.querySelector(".speed");
  const opacity = player.querySelector(".opacity");
  const firstLeadTime = Number(player.dataset.frame);
  let frame = firstLeadTime;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let inView = false;
  let timer = null;

  function show(number) {
    frame = (number + labels.length) % labels.length;
    for (const pictures of panels) {
      const shown = pictures.findLast((picture) => Number(picture.dataset.first) <= frame);
      for (const picture of pictures) picture.hidden = picture !== shown;
    }
    time.textContent = labels[frame];
    player.classList.toggle("past", frame < firstLeadTime);
    slider.value = String(frame);
    slider.setAttribute("aria-valuetext", labels[frame]);
  }

  function schedule() {
    clearTimeout(timer);
    play.textContent = playing ? "Pause" : "Play";
    if (playing && inView) {
      timer = setTimeout(() => { show(frame + 1); schedule(); }, durations[frame] / Number(speed.value));
    }
  }

  function toggle() {
    playing = !playing;
    schedule();
  }

  function goTo(number) {
    playing = false;
    show(number);
    schedule();
  }

  const keys = {
    ArrowLeft: () => goTo(frame - 1),
    ArrowRight: () => goTo(frame + 1),
    Home: () => goTo(0),
    End: () => goTo(labels.length - 1),
    " ": toggle,
  };
  player.addEventListener("keydown", (event) => {
    // What has the focus may know what to do with the key: buttons, the other slider, the speed.
    const pressed = (event.key === " " && event.target.tagName === "BUTTON") ||
      event.target === opacity || event.target === speed;
    if (pressed || event.altKey || event.ctrlKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  play.addEventListener("click", toggle);
  player.querySelector(".back").addEventListener("click", () => goTo(frame - 1));
  player.querySelector(".forward").addEventListener("click", () => goTo(frame + 1));
  slider.addEventListener("input", () => goTo(Number(slider.value)));
  speed.value = "1";
  speed.addEventListener("change", schedule);
  opacity?.addEventListener("input", () => {
    for (const picture of panels.flat()) picture.style.opacity = opacity.value / 100;
  });
  player.querySelector(".controls").hidden = false;
  show(frame);
  new IntersectionObserver((entries) => {
    inView = entries[entries.length - 1].isIntersecting;
    schedule();
  }).observe(player.querySelector(".panels"));
  schedule();
}

for (const player of document.querySelectorAll(".player")) start(player);
