/**
 * Puts quantisation into a model's graph: what a weight is stored as, and a `quantise` node on the edge that a product reads.
 * Which nodes, in which formats, is the model's policy.
 */
import { activationFormat, type Group } from '../../formats/index.js';
import type { NodeFormats } from '../../models/index.js';
import type { Graph, GraphNode, GraphValue } from '../../operators/graph.js';
import { operators } from '../../operators/index.js';
import { activationType, staticType, weightType } from '../../operators/quantise.js';
import { isQuantised } from '../../operators/program.js';
import { staticScaleFill } from './fills.js';

/** What a policy says of each node; null: nothing of it is quantised. */
export type Policy = (node: GraphNode) => NodeFormats | null;

/**
 * @param group numbers along k that share a scale of a weight
 * @throws LadderError `BAD_MANIFEST` for channels that do not divide into a format's blocks
 */
export function quantiseGraph(graph: Graph, policy: Policy, group: Group): Graph {
  const values: GraphValue[] = [...graph.values];
  const nodes: GraphNode[] = [];
  const parameters: number[] = [];
  /** Quantised twins of values, by format: products that read the same value share one. */
  const twins = new Map<string, number>();
  for (const node of graph.nodes) {
    const formats = policy(node);
    const operands = operators.get(node.kind).operands.map(({ role }) => role);
    // What is quantised on its way in stands first.
    const x = node.inputs[0];
    const weight = node.inputs[operands.indexOf('weight')];
    let inputs = node.inputs;
    if (formats?.weight && weight !== undefined && values[weight]!.role === 'weight')
      values[weight] = { ...values[weight]!, type: weightType(formats.weight, group) };
    if (formats?.input && x !== undefined && activationFormat(formats.input).activation.scale && !isQuantised(values[x]!.type)) {
      const isStatic = formats.inputScale === 'tensor' && activationFormat(formats.input).activation.group <= 0;
      const key = `${x} ${formats.input} ${isStatic}`;
      let twin = twins.get(key);
      if (twin === undefined) {
        const { axes } = values[x]!;
        const sources = [x];
        if (isStatic) {
          sources.push(values.push(staticScale(`${node.name}.input_scale`, formats.input)) - 1);
          parameters.push(sources[1]!);
        }
        const type = isStatic ? staticType(formats.input) : activationType(formats.input, { axes });
        twin = values.push({ axes, type }) - 1;
        nodes.push({
          kind: 'quantise',
          name: `${node.name}_quantise`,
          params: { format: formats.input },
          inputs: sources,
          outputs: [twin],
        });
        twins.set(key, twin);
      }
      inputs = [twin, ...node.inputs.slice(1)];
    }
    nodes.push({ ...node, inputs });
  }
  return { ...graph, values, nodes, inputs: [...graph.inputs, ...parameters] };
}

/** The parameter that one scale of a whole tensor is. */
function staticScale(name: string, format: string): GraphValue {
  return { name, role: 'calibration', axes: [{ name: 'one', extent: 1 }], type: 'f32', fill: staticScaleFill(format) };
}
