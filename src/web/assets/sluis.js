// Comfort only: every page works without this file.
(function () {
  "use strict";

  // A code that was pasted with spaces or words around it ("123 456", "Your code: 123456").
  document.querySelectorAll("input[data-digits]").forEach(function (field) {
    field.addEventListener("input", function () {
      var digits = field.value.replace(/\D/g, "");
      if (digits !== field.value) field.value = digits;
    });
    field.addEventListener("paste", function (event) {
      var text = event.clipboardData ? event.clipboardData.getData("text") : "";
      var digits = text.replace(/\D/g, "");
      if (!digits) return;
      event.preventDefault();
      field.value = digits;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    });
  });

  // A second click while the first is under way would spend a second code.
  document.querySelectorAll("form").forEach(function (form) {
    var sent = false;
    form.addEventListener("submit", function (event) {
      if (sent) event.preventDefault();
      sent = true;
    });
    window.addEventListener("pageshow", function () { sent = false; });
  });

  // Moments in the browser's own time zone.
  document.querySelectorAll("time[datetime]").forEach(function (time) {
    var at = new Date(time.getAttribute("datetime"));
    if (isNaN(at)) return;
    time.textContent = at.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  });

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    var told = document.getElementById(button.getAttribute("aria-describedby"));
    button.hidden = false;
    button.addEventListener("click", function () {
      copy(button.getAttribute("data-copy")).then(function () {
        if (!told) return;
        told.textContent = told.getAttribute("data-done");
        window.setTimeout(function () { told.textContent = ""; }, 4000);
      });
    });
  });

  function copy(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    return new Promise(function (resolve, reject) {
      var area = document.createElement("textarea");
      area.value = text;
      area.className = "unseen";
      document.body.appendChild(area);
      area.select();
      var done = document.execCommand("copy");
      area.remove();
      if (done) resolve(); else reject(new Error("not copied"));
    });
  }
})();
