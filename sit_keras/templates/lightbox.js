// Shows any picture of the page large, and goes through those of its section.
(() => {
  const dialog = document.getElementById("lightbox");
  const stage = dialog.querySelector(".stage");
  const text = dialog.querySelector("p");
  let all = [], at = 0;

  function show(number) {
    at = (number + all.length) % all.length;
    const picture = all[at].querySelector("img, svg").cloneNode(true);
    if (picture.tagName === "IMG") picture.style.width = `${Math.max(480, picture.naturalWidth)}px`;
    stage.replaceChildren(picture);
    text.textContent = all[at].dataset.text;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (!button) return;
    all = [...button.closest("section").querySelectorAll(".zoom")];
    show(all.indexOf(button));
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("[data-go]");
    if (event.target === dialog || button?.dataset.go === "0") dialog.close();
    else if (button) show(at + Number(button.dataset.go));
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(at - 1);
    if (event.key === "ArrowRight") show(at + 1);
  });
})();
