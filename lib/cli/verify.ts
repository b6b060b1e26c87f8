/** `ladder verify`: whether a checkpoint computes what it says. Exit 3 on a mismatch. */
import { LadderError } from '../errors.js';
import type { VerifyRunOptions } from '../run/options.js';
import { checkpointName, resolveCheckpoint } from '../run/package.js';
import { verifyPrebuilt } from '../run/run-prebuilt.js';
import type { OperatorVerdict, VerifyReport } from '../run/verdict.js';
import { exitCodes, type CliIo, type Command } from './command.js';
import { addCheckpointArgument, addLoadOptions, checkpointOf, progressTo, wholeNumber, type CheckpointOptions } from './shared.js';
import { renderTable } from '../table.js';

interface VerifyCliOptions extends CheckpointOptions {
  readonly endToEnd?: NonNullable<VerifyRunOptions['endToEnd']>;
  readonly maxColumns?: number;
  readonly maxRows?: number;
}

function scientific(value: number | null): string {
  return value === null ? '—' : value === 0 ? '0' : value.toExponential(1);
}

function verdictOf(passed: boolean, remarks: readonly string[] = []): string {
  return !passed ? 'MISMATCH' : remarks.length > 0 ? 'see below' : 'ok';
}

/** What was found to hold of a checkpoint whose operators' meaning is not known. */
function structuralResult({ operators, endToEnd }: VerifyReport): string {
  const all = [...operators, ...endToEnd];
  const held = [
    'structure',
    'completeness',
    ...(all.every(({ remarks }) => remarks.length === 0) ? ['finiteness'] : []),
    ...(operators.every(({ deterministic }) => deterministic !== false) && endToEnd.every(({ bitEqual }) => bitEqual)
      ? ['repeatability']
      : []),
  ];
  return `verified as far as an unknown checkpoint can be: ${held.join(', ')}`;
}

function operatorRow(verdict: OperatorVerdict): readonly string[] {
  const error = verdict.differing ?? verdict.relativeL2;
  return [
    verdict.node,
    `${verdict.dtype}[${verdict.shape.join(', ')}]`,
    verdict.compared === 0 ? '—' : `${verdict.compared}`,
    scientific(verdict.maxAbsolute),
    `${scientific(error)}${verdict.differing === null ? '' : ' differ'}`,
    scientific(verdict.tolerance),
    verdict.deterministic === null ? '—' : verdict.deterministic ? 'yes' : 'no',
    verdictOf(verdict.passed, verdict.remarks),
  ];
}

/** A report for people. */
export function renderVerify(path: string, report: VerifyReport): string {
  const lines = [
    `${checkpointName(path)} on ${report.device.name}, seed ${report.seed}`,
    '',
    renderTable(
      [{ title: 'structure' }, { title: '' }, { title: '' }],
      report.structure.map(({ name, detail, passed }) => [name, detail, verdictOf(passed)]),
    ),
    '',
    renderTable(
      [
        { title: 'operator', maxWidth: 48 },
        { title: 'output' },
        { title: 'compared', align: 'right' },
        { title: 'max error', align: 'right' },
        { title: 'relative', align: 'right' },
        { title: 'tolerance', align: 'right' },
        { title: 'repeats' },
        { title: 'verdict' },
      ],
      report.operators.map(operatorRow),
    ),
    '',
  ];
  if (report.endToEnd.length > 0) {
    lines.push(
      renderTable(
        [
          { title: 'end to end', maxWidth: 48 },
          { title: 'elements', align: 'right' },
          { title: 'two runs' },
          { title: 'relative', align: 'right' },
          { title: 'tolerance', align: 'right' },
          { title: 'verdict' },
        ],
        report.endToEnd.map((output) => [
          output.name,
          String(output.elements),
          output.bitEqual ? 'bit-equal' : `differ by ${scientific(output.maxDifference)}`,
          scientific(output.relativeL2),
          scientific(output.tolerance),
          verdictOf(output.passed, output.remarks),
        ]),
      ),
    );
  }
  lines.push(`end to end: ${report.endToEndScope}`, '');
  const named = [...report.operators.map(({ node, ...verdict }) => ({ name: node, ...verdict })), ...report.endToEnd];
  for (const { name, failures, remarks } of named) for (const line of [...failures, ...remarks]) lines.push(`${name}: ${line}`);
  lines.push(report.passed ? (report.kind === 'semantic' ? 'verified' : structuralResult(report)) : 'MISMATCH');
  return lines.join('\n');
}

/** Verifies and reports one checkpoint; several reports in JSON are one a line. */
async function verifyOne(path: string, options: VerifyCliOptions, io: CliIo): Promise<boolean> {
  const report = await verifyPrebuilt(path, {
    device: options.device,
    seed: options.seed,
    build: options.build,
    signal: io.signal,
    onProgress: progressTo(io),
    endToEnd: options.endToEnd,
    maxColumns: options.maxColumns,
    maxRows: options.maxRows,
  });
  io.endProgress();
  io.out(options.json ? JSON.stringify(report) : renderVerify(path, report));
  if (!report.passed) io.exit(exitCodes.mismatch);
  return report.passed;
}

export const verifyCommand: Command = {
  register(program, io) {
    addLoadOptions(
      addCheckpointArgument(
        program.command('verify').description('check structure and numbers of checkpoints, one after another; exit 3 on a mismatch'),
        true,
      ),
    )
      .option(
        '--end-to-end <extent>',
        "'full': also chain the whole through the reference; 'off'; 'auto': where that takes seconds",
        'auto',
      )
      .option('--max-columns <n>', 'columns of a product that the reference computes; 0 = all (default 512)', wholeNumber)
      .option('--max-rows <n>', 'rows of a product that the reference computes; 0 = all (default 16)', wholeNumber)
      .action(async (checkpoints: readonly string[], options: VerifyCliOptions) => {
        const paths =
          checkpoints.length > 1 && options.prebuilt_path === undefined
            ? checkpoints.map(resolveCheckpoint)
            : [checkpointOf(checkpoints[0], options)];
        const failed: string[] = [];
        for (const path of paths) {
          try {
            if (!(await verifyOne(path, options, io))) failed.push(`${checkpointName(path)}: MISMATCH`);
          } catch (error) {
            // Of several, one that cannot be verified keeps none of the others from it.
            if (paths.length === 1 || !(error instanceof LadderError) || error.code === 'ABORTED') throw error;
            io.exit(exitCodes.failed);
            failed.push(`${checkpointName(path)}: ${error.message} [${error.code}]`);
          }
        }
        if (paths.length > 1)
          for (const line of [`${paths.length - failed.length} of ${paths.length} checkpoints verified`, ...failed]) io.note(line);
      });
  },
};
