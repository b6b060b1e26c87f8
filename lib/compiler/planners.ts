/** Plans the kernels of any operator: one planner per kind. */
import type { Operator } from '../artifact/operators.js';
import { planDense } from './dense-kernels.js';
import type { KernelPlan, Tuning, WeightRuns } from './kernel.js';
import { planAttention, planNorm, planQuantise } from './small-kernels.js';

/**
 * @param next where the product after this one begins to read its weights, for operators that read ahead
 * @throws LadderError `UNSUPPORTED` naming the dimension that no kernel handles
 */
export function planOperator(operator: Operator, name: string, tuning: Tuning, next: WeightRuns | null = null): KernelPlan {
  switch (operator.op) {
    case 'dense': return planDense(operator, name, tuning, operator.prefetch === undefined ? null : next);
    case 'norm': return planNorm(operator, name, tuning);
    case 'quantise': return planQuantise(operator, name, tuning);
    case 'attention': return planAttention(operator, name, tuning);
  }
}
