/** From calibration scores to verdicts at any rate of false alarms: as the service computes them from `max_fpr`. */

import { rankSentence } from "../common/verdict.js";

const MOST_STEPS = 60; // of the slider
const LARGEST_RATE = 0.5;
const EPSILON = 1e-9; // as in the service: a rate that was divided must round to where it came from

export class Calibration {
  /** @param {{scores: number[], target_fpr: number, threshold: number}} anomaly Of a manifest; scores ascend. */
  constructor({ scores, target_fpr: targetRate, threshold }) {
    this.scores = scores;
    this.n = scores.length;
    this.own = { k: null, rate: targetRate, threshold };
    const most = Math.max(1, Math.floor(LARGEST_RATE * (this.n + 1)));
    const ownStep = Math.floor(targetRate * (this.n + 1) + EPSILON);
    const ks = new Set(Array.from({ length: MOST_STEPS }, (_, i) => Math.round(most ** (i / (MOST_STEPS - 1)))));
    if (ownStep >= 1 && ownStep <= this.n) ks.add(ownStep);
    /** What the slider can be set to: k calibration scores of n + 1 may be at or above the limit. */
    this.steps = [...ks].sort((a, b) => a - b).map((k) => ({ k, rate: k / (this.n + 1), threshold: this.#limit(k) }));
    /** Where the slider stands for the model's own limit. */
    this.ownIndex = Math.max(0, this.steps.findLastIndex(({ k }) => k <= ownStep));
  }

  /** The next float32 above the score that must still be normal. */
  #limit(k) {
    const view = new DataView(new ArrayBuffer(4));
    const value = Math.fround(this.scores[this.n - k]);
    if (value === 0) return 2 ** -149;
    view.setFloat32(0, value);
    view.setInt32(0, view.getInt32(0) + (value > 0 ? 1 : -1));
    return view.getFloat32(0);
  }

  /** Calibration scores at or above a score. */
  above(score) {
    let [low, high] = [0, this.n];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.scores[middle] < score) low = middle + 1;
      else high = middle;
    }
    return this.n - low;
  }

  pValue(score) {
    return (1 + this.above(score)) / (this.n + 1);
  }

  /** "Higher than all 9 good pictures it was checked against". */
  say(score) {
    return rankSentence(this.above(score), this.n);
  }
}
