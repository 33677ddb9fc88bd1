/** What a score means, in sentences that are true however few images a model was calibrated with. */

/**
 * How a score compares with the calibration scores.
 *
 * @param {number} above Calibration scores at or above the score.
 * @param {number} n Calibration scores in all.
 */
export function rankSentence(above, n) {
  const below = n - above;
  if (n === 1) return below ? "Higher than the one good picture it was checked against" : "Not higher than the one good picture it was checked against";
  if (above === 0) return `Higher than all ${count(n)} good pictures it was checked against`;
  if (below === 0) return `Higher than none of the ${count(n)} good pictures it was checked against`;
  return `Higher than ${count(below)} of the ${count(n)} good pictures it was checked against`;
}

/** The same, from an answer of /anomaly: its p-value is (1 + above) / (n + 1). */
export function rankOf({ p_value: p, calibration: { images } }) {
  return rankSentence(Math.round(p * (images + 1)) - 1, images);
}

/** A whole number with its thousands apart. */
export function count(n) {
  return n.toLocaleString("en");
}

/** A score or limit with three digits that count. */
export function figure(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.001 || size >= 100_000) return value.toExponential(2);
  return size >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** A share as per cent, with as many digits as it needs. */
export function percent(share) {
  return `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))} %`;
}
