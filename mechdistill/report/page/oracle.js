"use strict";
// The world's own law, as in mechdistill/sandbox/_oracle.py, and what can be copied in a sequence. Pure functions.

const mechdistillOracle = (() => {
  const CERTAIN = 1e6; // stands for infinite log odds, as there

  /** How often the token of each position has occurred so far, this time included. */
  function timesSoFar(tokens) {
    const seen = new Map();
    return tokens.map((token) => {
      const times = (seen.get(token) ?? 0) + 1;
      seen.set(token, times);
      return times;
    });
  }

  /** Earlier positions with the token of q. */
  function earlier(tokens, q) {
    const found = [];
    for (let s = 0; s < q; s++) if (tokens[s] === tokens[q]) found.push(s);
    return found;
  }

  /**
   * After tokens[q], which can be a trigger: P(target = c) by c, and P(no trigger).
   * `world`: {vocab, noise, slots: token -> slot or -1, rate: by slot, pi: Float32Array, prior: Float32Array}.
   */
  function posterior(world, tokens, q) {
    const { vocab, noise } = world;
    const token = tokens[q], slot = world.slots[token], rate = world.rate[slot];
    const mismatch = noise > 0 ? Math.log(noise) : -CERTAIN;
    const before = earlier(tokens, q);
    const log = new Float64Array(vocab + 1);
    const start = Math.log(rate) + mismatch * before.length;
    for (let c = 0; c < vocab; c++) log[c] = start + Math.log(world.prior[slot * vocab + c]);
    for (const s of before) {
      const next = tokens[s + 1];
      const odds = Math.log((1 - noise) / world.pi[token * vocab + next] + noise);
      log[next] += Math.min(odds, CERTAIN) - mismatch;
    }
    log[vocab] = Math.log(1 - rate);
    const all = mechdistillModel.softmax(log);
    return { target: all.subarray(0, vocab), absent: all[vocab] };
  }

  /** The exact Bayes law of the token after tokens[..q], probabilities by token. */
  function law(world, tokens, q) {
    const { vocab, noise } = world;
    const token = tokens[q];
    const row = Float64Array.from(world.pi.subarray(token * vocab, (token + 1) * vocab));
    if (world.slots[token] < 0) return row;
    const { target, absent } = posterior(world, tokens, q);
    const ordinary = absent + noise * (1 - absent);
    for (let c = 0; c < vocab; c++) row[c] = (1 - noise) * target[c] + ordinary * row[c];
    return row;
  }

  /**
   * What each position is: {trigger, occurrence, copyable, sources, target}.
   *
   * A token is a trigger where it always is one; where sequences draw their own, if `hidden` (a Set, or null where
   * nobody knows) has it, and otherwise if the oracle gives that more than even odds. `sources` are the positions
   * right after earlier occurrences, before q; `target` is what followed most often, the latest of equals.
   */
  function labels(world, tokens, hidden) {
    const times = timesSoFar(tokens);
    return tokens.map((token, q) => {
      const slot = world.slots[token];
      let trigger = slot >= 0;
      if (trigger && world.rate[slot] < 1) {
        if (hidden !== null) trigger = hidden.has(token);
        else trigger = world.pi !== null && posterior(world, tokens, q).absent < 0.5;
      }
      const occurrence = trigger ? times[q] : 0;
      const copyable = occurrence >= 2;
      const before = copyable ? earlier(tokens, q) : [];
      const counts = new Map();
      for (const s of before) counts.set(tokens[s + 1], (counts.get(tokens[s + 1]) ?? 0) + 1);
      let target = null;
      for (const s of before) {
        if (target === null || counts.get(tokens[s + 1]) >= counts.get(target)) target = tokens[s + 1];
      }
      return { trigger, occurrence, copyable, target, sources: before.map((s) => s + 1).filter((s) => s < q) };
    });
  }

  return { labels, law };
})();
