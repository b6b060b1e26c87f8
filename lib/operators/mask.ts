/** Masks of attention. */

/** Which keys a query sees, the default first. */
export const kMasks = ['none', 'causal'] as const;
export type Mask = (typeof kMasks)[number];
