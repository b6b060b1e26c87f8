/**
 * 215,000 mutated inputs to the parsers of untrusted files. Each gives a result that says exactly what the input says, or a
 * LadderError of the parser's code: no other exception, no hang, no silent success. Seeds are fixed; fast-check shrinks
 * and prints what fails.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BufferSource, ByteReader, ByteWriter } from '../../lib/artifact/byte-source.js';
import { checkManifest } from '../../lib/artifact/checks.js';
import { dataTypeOf, elementBytes } from '../../lib/artifact/dtype.js';
import { definedFunctions, type ElfObject, fileRangeAt, localFunctionAddress, parseElf } from '../../lib/artifact/elf.js';
import { type Graph, parseGraph } from '../../lib/artifact/graph.js';
import { parseManifest } from '../../lib/artifact/manifest.js';
import {
  type BlobConstantUser,
  type BlobImage,
  encodeModuleBlob,
  type ImageFormat,
  type ModuleBlob,
  parseModuleBlob,
} from '../../lib/artifact/module-blob.js';
import { writeArrayHeader } from '../../lib/artifact/nd-array.js';
import { type ParamTensor, parseParams, writeParams } from '../../lib/artifact/params.js';
import { storageConflicts } from '../../lib/artifact/storage.js';
import { type ErrorCode, LadderError } from '../../lib/errors.js';
import {
  compileModule,
  factoryBlob,
  fixtureBlob,
  fixtureGraph,
  fixtureManifest,
  fixtureManifestV1,
  fixtureParams,
} from '../fixtures/artifact/checkpoint.js';
import { foreignGraph } from '../fixtures/artifact/foreign-graph.js';
import { byteMutations, jsonMutations, mutateBytes, mutateJson, textMutations } from '../fixtures/artifact/mutate.js';

/** Mutated inputs per kind; the sum is what is promised. */
const kRuns = {
  graphJson: 50_000,
  graphBytes: 20_000,
  params: 45_000,
  blob: 45_000,
  manifestJson: 25_000,
  manifestBytes: 10_000,
  manifestV1: 5_000,
  elf: 15_000,
} as const;
const kSeed = 20240710;
/** Longest that one small input may take, milliseconds: generous, for slow machines; a hang or a quadratic blow-up exceeds it. */
const kMaxMs = 2_000;

let folder: string;
let params: Uint8Array;
let elfBytes: Uint8Array;
const blob = encodeModuleBlob(fixtureBlob());
const fromExport = factoryBlob();
const graphs = [JSON.stringify(foreignGraph()), JSON.stringify(JSON.parse(fixtureGraph()))];
const manifest = JSON.stringify(fixtureManifest());
const manifestV1 = JSON.stringify(fixtureManifestV1());
const fixtureParsed = parseGraph(fixtureGraph());

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ladder-fuzz-'));
  await writeParams(join(folder, 'graph.params'), fixtureParams());
  params = await readFile(join(folder, 'graph.params'));
  await compileModule(join(folder, 'model.so'), ['op_a', 'op_b'], blob, [
    '-s',
    '-nostdlib',
    '-Wl,-z,noseparate-code',
    '-Wl,-z,max-page-size=4096',
  ]);
  elfBytes = await readFile(join(folder, 'model.so'));
});
afterAll(() => rm(folder, { recursive: true }));

// A call of `expect` takes longer than most parsers do here: what holds is seen without it, and `expect` says what does not.

/** The parser's result, or null for a proper refusal; anything else fails the test. */
function attempt<T>(code: ErrorCode, parse: () => T): T | null {
  const started = performance.now();
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    if (error.code !== code) expect(error).toMatchObject({ code });
    if (error.message.length >= 2_000) expect(error.message.length).toBeLessThan(2_000);
    return null;
  } finally {
    const elapsedMs = performance.now() - started;
    if (!(elapsedMs < kMaxMs)) expect(elapsedMs).toBeLessThan(kMaxMs);
  }
}

/** Counts outcomes, so that a run in which nothing is refused, or nothing accepted, shows. */
class Tally {
  accepted = 0;
  refused = 0;
  count(accepted: boolean): void {
    if (accepted) this.accepted++;
    else this.refused++;
  }
}

// A mutated document has no type.
// biome-ignore lint/suspicious/noExplicitAny: so it is
type Json = Record<string, any>;

/** What a graph says, in graph.json's own terms. */
function encodeGraph(graph: Graph): Json {
  const reference = (id: number): number[] => [graph.entries[id]!.node, graph.entries[id]!.output];
  const { entries } = graph;
  return {
    nodes: graph.nodes.map((node) => ({
      op: node.op,
      name: node.name,
      inputs: node.inputs.map(reference),
      control: node.controlDependencies,
      attrs: [...node.attributes].sort(),
      call: node.functionName === null ? null : [node.functionName, node.inputs.length, node.outputs.length, node.flatten],
    })),
    arguments: graph.argumentNodes,
    heads: graph.heads.map(reference),
    rows: [...graph.nodes.map(({ outputs }) => outputs[0]), entries.length],
    dltype: entries.map(({ dtype }) => dtype.name),
    shape: entries.map(({ shape }) => shape),
    storage: entries.map(({ storageId }) => storageId),
    device: entries.map(({ deviceType }) => deviceType),
    scope: entries.map(({ storageScope }) => storageScope),
    bytes: entries.map(({ shape, dtype }) => shape.reduce((a, b) => a * b, elementBytes(dtype))),
  };
}

/** The same, straight from the document, by someone who trusts it. */
function expectedGraph(json: Json, graph: Graph): Json {
  const attrs = json['attrs'] as Json;
  const list = (key: string): unknown[] => (Object.hasOwn(attrs, key) ? attrs[key][1] : graph.entries.map(() => null));
  return {
    nodes: json['nodes'].map((node: Json) => {
      const all = Object.entries((node['attrs'] ?? node['attr'] ?? {}) as Record<string, string>);
      const known = ['func_name', 'num_inputs', 'num_outputs', 'flatten_data'];
      const own = new Map(all);
      return {
        op: node['op'],
        name: node['name'],
        inputs: node['inputs'].map((input: number[]) => input.slice(0, 2)),
        control: node['control_deps'] ?? [],
        attrs: all.filter(([key]) => node['op'] === 'null' || !known.includes(key)).sort(),
        call:
          node['op'] === 'null'
            ? null
            : [own.get('func_name'), Number(own.get('num_inputs')), Number(own.get('num_outputs')), Number(own.get('flatten_data')) !== 0],
      };
    }),
    arguments: json['arg_nodes'],
    heads: json['heads'].map((head: number[]) => head.slice(0, 2)),
    rows: json['node_row_ptr'],
    dltype: list('dltype'),
    shape: list('shape'),
    storage: list('storage_id'),
    device: list('device_index'),
    scope: list('storage_scope'),
    bytes: graph.entries.map(({ sizeBytes }) => sizeBytes),
  };
}

/** JSON text of both sides: makes −0 and 0 one, which they are in graph.json. */
function same(a: unknown, b: unknown): void {
  const texts = [JSON.stringify(a), JSON.stringify(b)];
  if (texts[0] !== texts[1]) expect(texts[0]).toBe(texts[1]);
}

function checkGraphText(text: string): boolean {
  const graph = attempt('BAD_GRAPH', () => parseGraph(text));
  if (!graph) return false;
  same(encodeGraph(graph), expectedGraph(JSON.parse(text) as Json, graph));
  storageConflicts(graph);
  return true;
}

/** Re-encodes parsed parameters, taking reserved fields and device ids, which mean nothing, from the original. */
function encodeParams(tensors: readonly ParamTensor[], original: Uint8Array): Uint8Array {
  const writer = new ByteWriter().u64(0xf7e58d4f05049cb7n).bytes(original.subarray(8, 16)).u64(tensors.length);
  for (const { name } of tensors) writer.string(name);
  writer.u64(tensors.length);
  for (const tensor of tensors) {
    const header = new ByteWriter();
    writeArrayHeader(header, tensor);
    const bytes = header.finish();
    const start = tensor.fileOffset - bytes.length;
    bytes.set(original.subarray(start + 8, start + 16), 8);
    bytes.set(original.subarray(start + 20, start + 24), 20);
    writer.bytes(bytes).bytes(original.subarray(tensor.fileOffset, tensor.fileOffset + tensor.sizeBytes));
  }
  return writer.finish();
}

function checkParamsBytes(bytes: Uint8Array): boolean {
  const tensors = attempt('BAD_PARAMS', () => parseParams(new BufferSource(bytes)));
  if (tensors && Buffer.compare(encodeParams(tensors, bytes), bytes) !== 0) expect(encodeParams(tensors, bytes)).toEqual(bytes);
  return tensors !== null;
}

/** What a blob says, read by someone who trusts it; every byte that the size prefix covers must be accounted for. */
function expectedBlob(bytes: Uint8Array): ModuleBlob {
  const reader = new ByteReader(new BufferSource(bytes), 'INTERNAL');
  const end = 8 + reader.u64('');
  const times = <T>(read: () => T): T[] => Array.from({ length: reader.u64('') }, read);
  const string = (): string => reader.string('');
  const type = () => dataTypeOf(reader.u8(''), reader.u8(''), reader.u16(''))!;
  const array = (name: string): ParamTensor => {
    reader.skip(24, '');
    const ndim = reader.i32('');
    const dtype = type();
    const shape = Array.from({ length: ndim }, () => reader.u64(''));
    const sizeBytes = reader.u64('');
    const fileOffset = reader.offset;
    reader.skip(sizeBytes, '');
    return { name, dtype, shape, sizeBytes, fileOffset };
  };
  const images: BlobImage[] = [];
  const constants: ParamTensor[] = [];
  const params: ParamTensor[] = [];
  const constantUsers: BlobConstantUser[] = [];
  times(() => {
    const key = string();
    if (key === '_import_tree') {
      times(() => reader.u64(''));
      times(() => reader.u64(''));
    }
    if (key === 'cuda') {
      const format = string() as ImageFormat;
      const kernels = times(() => ({ name: string(), recorded: string(), argumentTypes: times(type), launchTags: times(string) }));
      images.push({
        format,
        kernels: kernels.map(({ name, argumentTypes, launchTags }) => ({ name, argumentTypes, launchTags })),
        bytes: reader.bytes(reader.u64(''), ''),
      });
    }
    if (key.endsWith('Factory')) {
      reader.skip(reader.u64(''), '');
      reader.u64('');
      params.push(...times(string).map(array));
      string();
    }
    if (key === 'const_loader' || key === 'metadata') {
      const names = times(string);
      constants.push(...names.slice(0, reader.u64('')).map(array));
      const symbols = times(string);
      const lists = times(() => times(string));
      symbols.forEach((symbol, i) => constantUsers.push({ symbol, constants: lists[i]! }));
    }
  });
  expect(reader.offset).toBe(end);
  return { images, constants, constantUsers, params };
}

/** A blob's constants with their contents: where they lie changes when it is written anew. */
function withContents(parsed: ModuleBlob, bytes: Uint8Array) {
  const constants = parsed.constants.map(({ fileOffset, sizeBytes, ...constant }) => ({
    ...constant,
    bytes: bytes.subarray(fileOffset, fileOffset + sizeBytes),
  }));
  return { ...parsed, constants };
}

function checkBlobBytes(bytes: Uint8Array): boolean {
  const parsed = attempt('BAD_MODULE', () => parseModuleBlob(new BufferSource(bytes)));
  if (!parsed) return false;
  expect(parsed).toEqual(expectedBlob(bytes));
  const encoded = encodeModuleBlob(withContents(parsed, bytes));
  expect(withContents(parseModuleBlob(new BufferSource(encoded)), encoded)).toEqual({ ...withContents(parsed, bytes), params: [] });
  return true;
}

function checkManifestText(text: string): boolean {
  const parsed = attempt('BAD_MANIFEST', () => parseManifest(text));
  if (!parsed) return false;
  expect(JSON.parse(JSON.stringify(parsed))).toEqual(JSON.parse(text.replace(/-0(?=[,\]}])/g, '0')));
  attempt('BAD_MANIFEST', () => checkManifest(fixtureParsed, parsed));
  return true;
}

/** Version 1 is told in other words; what is told must be whole, and be told by the present version, too. */
function checkManifestV1Text(text: string): boolean {
  const parsed = attempt('BAD_MANIFEST', () => parseManifest(text));
  if (!parsed) return false;
  const { tensors, operators, ...rest } = JSON.parse(text) as Json;
  const { tensors: upgraded, operators: programs, ...same } = parsed;
  expect({ ...rest, schema: 'ladder-checkpoint/2' }).toEqual(JSON.parse(JSON.stringify(same)));
  expect(Object.keys(upgraded)).toEqual(Object.keys(tensors as Json));
  expect(programs.map(({ program, ...operator }) => operator)).toEqual((operators as Json[]).map(({ semantics, ...operator }) => operator));
  expect(parseManifest(JSON.stringify(parsed))).toEqual(parsed);
  attempt('BAD_MANIFEST', () => checkManifest(fixtureParsed, parsed));
  return true;
}

/** Everything that an ELF result points at lies in the file. */
function checkElfBytes(bytes: Uint8Array): boolean {
  const elf: ElfObject | null = attempt('BAD_MODULE', () => parseElf(new BufferSource(bytes)));
  if (!elf) return false;
  expect(elf.segments.filter(({ offset, fileBytes }) => !(offset + fileBytes <= bytes.length))).toEqual([]);
  expect(elf.sections.filter(({ offset, sizeBytes }) => !(offset + sizeBytes <= bytes.length))).toEqual([]);
  expect([...elf.exported].filter(([name, symbol]) => symbol.name !== name)).toEqual([]);
  const address = localFunctionAddress(new BufferSource(bytes), elf, '_init');
  const starts = [...(address === null ? [] : [address]), ...definedFunctions(new BufferSource(bytes), elf).map((one) => one.address)];
  expect(starts.filter((start) => fileRangeAt(elf, start) === null)).toEqual([]);
  return true;
}

/** Text of mutated bytes: damage to the encoding itself is readCheckpoint's to refuse. */
const asText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');

describe('mutated inputs', () => {
  it('are 215,000', () => expect(Object.values(kRuns).reduce<number>((a, b) => a + b, 0)).toBe(215_000));

  function property<T>(name: string, runs: number, arbitrary: fc.Arbitrary<T>, check: (value: T) => boolean): void {
    it(`${name}: ${runs}`, { timeout: 120_000 }, () => {
      const tally = new Tally();
      fc.assert(
        fc.property(arbitrary, (value) => tally.count(check(value))),
        { numRuns: runs, seed: kSeed },
      );
      expect(tally.accepted + tally.refused).toBe<number>(runs);
      // The mutations must be neither all fatal nor all harmless, or they would test little.
      expect(tally.accepted).toBeGreaterThan(runs / 100);
      expect(tally.refused).toBeGreaterThan(runs / 4);
    });
  }

  const which = fc.constantFrom(...graphs);
  const text = new TextEncoder();
  property('graph.json, structure', kRuns.graphJson, fc.tuple(which, jsonMutations), ([graph, mutations]) =>
    checkGraphText(mutateJson(graph, mutations)),
  );
  property('graph.json, bytes', kRuns.graphBytes, fc.tuple(which, textMutations), ([graph, mutations]) =>
    checkGraphText(asText(mutateBytes(text.encode(graph), mutations))),
  );
  property('graph.params', kRuns.params, byteMutations, (mutations) => checkParamsBytes(mutateBytes(params, mutations)));
  property('module blob', kRuns.blob, fc.tuple(fc.boolean(), byteMutations), ([exported, mutations]) =>
    checkBlobBytes(mutateBytes(exported ? fromExport : blob, mutations)),
  );
  property('checkpoint.json, structure', kRuns.manifestJson, jsonMutations, (mutations) =>
    checkManifestText(mutateJson(manifest, mutations)),
  );
  property('checkpoint.json of version 1, structure', kRuns.manifestV1, jsonMutations, (mutations) =>
    checkManifestV1Text(mutateJson(manifestV1, mutations)),
  );
  property('checkpoint.json, bytes', kRuns.manifestBytes, textMutations, (mutations) =>
    checkManifestText(asText(mutateBytes(text.encode(manifest), mutations))),
  );
  property('ELF', kRuns.elf, byteMutations, (mutations) => checkElfBytes(mutateBytes(elfBytes, mutations)));
});

describe('truncation at every byte', () => {
  const refusesEvery = (bytes: Uint8Array, check: (bytes: Uint8Array) => boolean): void => {
    expect(check(bytes)).toBe(true);
    for (let length = 0; length < bytes.length; length++) {
      if (check(bytes.subarray(0, length))) expect.fail(`accepted ${length} of ${bytes.length} bytes`);
    }
  };
  it('graph.json', () =>
    graphs.forEach((graph) => refusesEvery(new TextEncoder().encode(graph), (bytes) => checkGraphText(asText(bytes)))));
  it('checkpoint.json', () => refusesEvery(new TextEncoder().encode(manifest), (bytes) => checkManifestText(asText(bytes))));
  it('checkpoint.json of version 1', () =>
    refusesEvery(new TextEncoder().encode(manifestV1), (bytes) => checkManifestV1Text(asText(bytes))));
  it('graph.params', () => refusesEvery(params, checkParamsBytes));
  it('module blob', () => [blob, fromExport].forEach((bytes) => refusesEvery(bytes, checkBlobBytes)));
  it('model.so', () => refusesEvery(elfBytes, checkElfBytes));
});
