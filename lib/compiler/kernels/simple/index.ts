import type { Family } from '../family.js';
export const simpleFamilies: readonly Family[] = [];
