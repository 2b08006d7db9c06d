"use strict";
// Requests to the server, and the order in which they are made.

// Sends an object to the server and returns the object that it answers.
async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The explorer has ended; start it again with nelbo explore and open the address that it prints.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function show(message) {
  const status = document.getElementById("status");
  if (status.textContent !== message) status.textContent = message;
}

// Returns a function that does some work. While it is working, of all further calls the last one waits, and is done next:
// while a point is dragged, no request is made for places that it has left.
function latest(work) {
  let busy = false, waiting = null;
  return async function call(...given) {
    if (busy) { waiting = given; return; }
    busy = true;
    try {
      await work(...given);
      show("");
    } catch (error) {
      show(error.message);
    }
    busy = false;
    if (waiting !== null) {
      const next = waiting;
      waiting = null;
      call(...next);
    }
  };
}
