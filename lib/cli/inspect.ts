/** `ladder inspect`: what a checkpoint's folder holds, without a GPU and without loading its code. Exit 1 where it has problems. */
import { caseOfName } from '../artifact/names.js';
import { inspectPrebuilt, type Inspection } from '../artifact/inspect.js';
import { caseLabel } from '../formats/index.js';
import { exitCodes, type Command } from './command.js';
import { addCheckpointArgument, checkpointOf } from './shared.js';
import { formatBytes, renderTable } from '../table.js';

const routes = {
  1: 'route 1: launches its kernels itself',
  2: 'route 2: kernels in its module blob',
  '1 and 2': 'route 1 and 2: launches some kernels itself, others lie in its module blob',
  cpu: 'CPU code',
} as const;

/** An inspection for people. */
export function renderInspection(inspection: Inspection): string {
  const { graph, module, params, manifest, parsedName } = inspection;
  const facts: string[][] = [
    ['folder', inspection.folder],
    ['model', inspection.model],
  ];
  if (manifest)
    facts.push([
      'format',
      `${caseLabel(manifest.format)}, batch ${manifest.batch}, ${manifest.seq} ${manifest.seq === 1 ? 'token' : 'tokens'}${manifest.seq === 1 ? '' : ` (mask: ${manifest.mask ?? 'none'})`}, ${manifest.layers} ${manifest.layers === 1 ? 'layer' : 'layers'}; moves ${formatBytes(manifest.bytes)}, ${(manifest.flops / 1e9).toPrecision(3)} GFLOP`,
    ]);
  else if (parsedName) facts.push(['by its name', `${caseOfName(parsedName).format}, batch ${parsedName.batch}, ${parsedName.seq} tokens`]);
  if (graph)
    facts.push([
      'graph.json',
      `${graph.nodes} nodes, ${graph.operators.length} operators; ${graph.storages} buffers of ${formatBytes(graph.sharedBytes)} in all (${formatBytes(graph.unsharedBytes)} without sharing)`,
    ]);
  facts.push([
    'model.so',
    module
      ? `${formatBytes(module.sizeBytes)}, ${module.machine}, ${routes[module.route]}${module.architectures.length > 0 ? `; ${module.architectures.join(', ')}` : ''}${module.kernels.length > 0 ? `; ${module.kernels.length} kernels` : ''}`
      : manifest
        ? 'absent: built on first use'
        : 'absent',
  ]);
  const functions = module?.globalFunctions ?? [];
  if (functions.length > 0)
    facts.push(['global functions', functions.map(({ name, provided }) => `${name}${provided === false ? ' (not here)' : ''}`).join(', ')]);
  facts.push([
    'graph.params',
    params
      ? `${params.tensors} tensors, ${formatBytes(params.sizeBytes)}${params.unused.length > 0 ? `; ${params.unused.length} more that the graph lacks` : ''}`
      : 'absent: weights are generated',
  ]);
  facts.push([
    'checkpoint.json',
    manifest
      ? `built from sources ${manifest.build.sources.slice(0, 12)}, tuning ${manifest.build.tuning}`
      : 'absent: a foreign checkpoint',
  ]);
  const lines = [renderTable([{ title: 'checkpoint' }, { title: inspection.name }], facts)];
  if (graph) {
    lines.push(
      '',
      renderTable(
        [{ title: 'tensor', maxWidth: 48 }, { title: 'type' }, { title: 'size', align: 'right' }, { title: 'from' }],
        [...graph.inputs, ...graph.outputs].map((tensor) => [
          tensor.name,
          `${tensor.dtype}[${tensor.shape.join(', ')}]`,
          formatBytes(tensor.sizeBytes),
          tensor.source,
        ]),
      ),
    );
    lines.push(
      '',
      renderTable(
        [{ title: 'operator', maxWidth: 60 }, { title: 'computes' }, { title: 'kernels' }, { title: 'outputs' }],
        graph.operators.map(({ node, steps, kernels, outputs }) => [node, steps ?? '—', kernels ?? '—', outputs.join(' ')]),
      ),
    );
  }
  if (inspection.problems.length > 0) lines.push('', ...inspection.problems.map(({ code, message }) => `PROBLEM ${code}: ${message}`));
  if (inspection.remarks.length > 0) lines.push('', ...inspection.remarks.map((remark) => `remark: ${remark}`));
  return lines.join('\n');
}

export const inspectCommand: Command = {
  register(program, io) {
    addCheckpointArgument(program.command('inspect').description('what a checkpoint holds: no GPU, nothing is loaded'))
      .option('--json', 'machine-readable result')
      .action(async (argument: string | undefined, options: { prebuilt_path?: string; json?: boolean }) => {
        const inspection = await inspectPrebuilt(checkpointOf(argument, options));
        io.out(options.json ? JSON.stringify(inspection) : renderInspection(inspection));
        if (inspection.problems.length > 0) io.exit(exitCodes.failed);
      });
  },
};
