// The clock in the header comes over a websocket, as the call system of the real thing would.
const clock = document.querySelector("[data-live]");
if (clock) {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/live?clock");
  socket.onmessage = (event) => {
    const time = new Date(event.data);
    if (!Number.isNaN(time.valueOf())) {
      clock.hidden = false;
      clock.textContent = time.toLocaleTimeString();
    }
  };
}
