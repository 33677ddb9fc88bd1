/**
 * One at a time, and the newest wins: while `work` runs, further calls are remembered, and only the last of them runs
 * after it. So a fast hand asks no faster than the service answers, and never sees an old answer after a newer one.
 *
 * @param {(signal: AbortSignal, ...args: any[]) => Promise<void>} work Shows its own problems.
 * @returns A function to call as often as one likes. Its `fresh` first aborts what is running: for another image. Its
 *     `stop` aborts and asks nothing new.
 */
export function latest(work) {
  let waiting = null;
  let running = null;

  async function run() {
    while (waiting) {
      const args = waiting;
      waiting = null;
      running = new AbortController();
      try {
        await work(running.signal, ...args);
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      } finally {
        running = null;
      }
    }
  }

  function ask(...args) {
    waiting = args;
    if (!running) return run();
    return undefined;
  }

  ask.stop = () => {
    waiting = null;
    running?.abort();
  };
  ask.fresh = (...args) => {
    ask.stop();
    return ask(...args);
  };
  return ask;
}

/** Calls `work` once nothing has been asked for during `ms`. */
export function settled(work, ms) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), ms);
  };
}
