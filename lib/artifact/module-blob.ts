/**
 * The module blob of model.so (`__tvm_dev_mblob`): device images with their kernels' signatures, constants, parameters.
 * Follows TVM 0.12: ModuleSerializer, CUDAModuleNode::SaveToBinary, FunctionInfo::Save, ConstLoaderModuleNode,
 * GraphExecutorFactory, in dmlc's stream format (little-endian; u64 counts; a map is a list of pairs). Finding the bytes in the
 * ELF file is elf.ts's. A blob may hold gigabytes of constants: only headers and images are read, the rest stays in the file.
 *
 *   u64 size of what follows │ u64 n │ n × (string key, payload by key)
 */
import { LadderError } from '../errors.js';
import { ByteReader, type ByteSource, ByteWriter } from './byte-source.js';
import type { FileRange } from './elf.js';
import type { DataType } from '../native.js';
import { dataTypeOf } from './dtype.js';
import { readArrayHeader, writeArrayHeader } from './nd-array.js';
import type { ParamTensor } from './params.js';

/** A kernel of a device image. */
export interface BlobKernel {
  /** Under which host code asks for it, and its symbol in the image. */
  readonly name: string;
  readonly argumentTypes: readonly DataType[];
  /** blockIdx.x … threadIdx.z, tir.use_dyn_shared_memory: one int64 each after the arguments, in this order. */
  readonly launchTags: readonly string[];
}

/** Device code in a format that cuModuleLoadData takes. */
export type ImageFormat = 'ptx' | 'cubin' | 'fatbin';

export interface BlobImage {
  readonly format: ImageFormat;
  readonly kernels: readonly BlobKernel[];
  readonly bytes: Uint8Array;
}

/** A constant to write. */
export interface ConstantContents extends Pick<ParamTensor, 'name' | 'dtype' | 'shape'> {
  readonly bytes: Uint8Array;
}

/** Which constants a function of the module is given at load. */
export interface BlobConstantUser {
  readonly symbol: string;
  readonly constants: readonly string[];
}

export interface ModuleBlob {
  readonly images: readonly BlobImage[];
  /** Where they lie in the file; operators ask for them through `constantUsers`. */
  readonly constants: readonly ParamTensor[];
  readonly constantUsers: readonly BlobConstantUser[];
  /** Parameters of the graph that TVM's `export_library` put here; where they lie in the file. */
  readonly params: readonly ParamTensor[];
}

/** What a blob to write holds. */
export interface BlobContents {
  readonly images: readonly BlobImage[];
  readonly constants?: readonly ConstantContents[];
  readonly constantUsers?: readonly BlobConstantUser[];
}

const kImageFormats: readonly string[] = ['ptx', 'cubin', 'fatbin'] satisfies ImageFormat[];
export const kDynamicSharedTag = 'tir.use_dyn_shared_memory';
export const kThreadTags: readonly string[] = ['blockIdx.x', 'blockIdx.y', 'blockIdx.z', 'threadIdx.x', 'threadIdx.y', 'threadIdx.z'];
const kU64Bytes = 8;
/** Device code past this is damage. */
const kMaxImageBytes = 2 ** 30;
/** What TVM calls them, before and after its executors were renamed. */
const kConstantLoaders: readonly string[] = ['const_loader', 'metadata'];
const kFactories: readonly string[] = ['GraphExecutorFactory', 'GraphRuntimeFactory'];

/**
 * Parses the module blob that fills a range of a file, its size prefix included; bytes after the end that the prefix gives are
 * ignored.
 * @throws LadderError `BAD_MODULE`; for a module of another kind, naming it
 */
export function parseModuleBlob(source: ByteSource, range: FileRange = { offset: 0, sizeBytes: source.sizeBytes }): ModuleBlob {
  const prefix = new ByteReader(source, 'BAD_MODULE', range.offset, range.offset + range.sizeBytes);
  const sizeBytes = prefix.count('size of the module blob', 1);
  const reader = new ByteReader(source, 'BAD_MODULE', prefix.offset, prefix.offset + sizeBytes);
  const images: BlobImage[] = [];
  let loader: Pick<ModuleBlob, 'constants' | 'constantUsers'> | null = null;
  let params: readonly ParamTensor[] | null = null;
  let modules = 0;
  let libraries = 0;
  let tree: { rowPointers: readonly number[]; children: readonly number[] } | null = null;
  const count = reader.count('number of modules', kU64Bytes);
  for (let i = 0; i < count; i++) {
    const key = reader.string('module key');
    if (key !== '_import_tree') modules++;
    if (key === '_lib') {
      if (++libraries > 1) throw reader.fail('a second `_lib`; TVM merges all host code into one');
    } else if (key === '_import_tree') {
      if (tree) throw reader.fail('a second `_import_tree`');
      tree = {
        rowPointers: readIndices(reader, 'row pointers of the import tree'),
        children: readIndices(reader, 'children of the import tree'),
      };
    } else if (key === 'cuda') {
      images.push(readImage(reader));
    } else if (kConstantLoaders.includes(key)) {
      if (loader) throw reader.fail(`a second ${key}`);
      loader = readConstants(reader);
    } else if (kFactories.includes(key)) {
      if (params) throw reader.fail(`a second ${key}`);
      params = readFactory(reader);
    } else if (key !== 'metadata_module') {
      // `metadata_module` has no payload: it describes the model to those who ask.
      throw new LadderError(
        'BAD_MODULE',
        `the module blob holds a module of kind ${JSON.stringify(key.slice(0, 80))}; only cuda, const_loader and GraphExecutorFactory can be run here: compile the model for CUDA or the CPU alone`,
        { kind: key.slice(0, 80) },
      );
    }
  }
  if (reader.remaining > 0) throw reader.fail(`${reader.remaining} bytes are left over after ${count} modules`);
  if (tree) checkImportTree(reader, tree.rowPointers, tree.children, modules);
  checkKernelNames(reader, images);
  return { images, constants: loader?.constants ?? [], constantUsers: loader?.constantUsers ?? [], params: params ?? [] };
}

/**
 * Writes a blob as TVM would export it, its size prefix included: the library (below the constants' loader, if there are
 * constants) importing the images, and the import tree.
 */
export function encodeModuleBlob(blob: BlobContents): Uint8Array {
  const { images, constants = [], constantUsers = [] } = blob;
  const hasLoader = constants.length > 0 || constantUsers.length > 0;
  const writer = new ByteWriter();
  writer.u64((hasLoader ? 1 : 0) + 1 + images.length + 1);
  if (hasLoader) writeConstants(writer, constants, constantUsers);
  writer.string('_lib');
  for (const image of images) writeImage(writer, image);
  // Module 0 is the root; each module's children come after it.
  const library = hasLoader ? 1 : 0;
  const children = [...(hasLoader ? [[library]] : []), images.map((_, i) => library + 1 + i), ...images.map(() => [])];
  writer.string('_import_tree');
  const pointers = [0];
  for (const list of children) pointers.push(pointers.at(-1)! + list.length);
  writeIndices(writer, pointers);
  writeIndices(writer, children.flat());
  const body = writer.finish();
  return new ByteWriter().u64(body.length).bytes(body).finish();
}

function readIndices(reader: ByteReader, what: string): readonly number[] {
  return Array.from({ length: reader.count(what, kU64Bytes) }, () => reader.u64(what));
}

function writeIndices(writer: ByteWriter, indices: readonly number[]): void {
  writer.u64(indices.length);
  for (const index of indices) writer.u64(index);
}

function readStrings(reader: ByteReader, what: string): readonly string[] {
  return Array.from({ length: reader.count(what, kU64Bytes) }, () => reader.string(what));
}

function writeStrings(writer: ByteWriter, strings: readonly string[]): void {
  writer.u64(strings.length);
  for (const text of strings) writer.string(text);
}

function checkImportTree(reader: ByteReader, rowPointers: readonly number[], children: readonly number[], modules: number): void {
  if (
    rowPointers.length !== modules + 1 ||
    rowPointers[0] !== 0 ||
    rowPointers.at(-1) !== children.length ||
    rowPointers.some((pointer, i) => i > 0 && pointer < rowPointers[i - 1]!)
  ) {
    throw reader.fail(`the import tree's row pointers do not fit ${modules} modules and ${children.length} children`);
  }
  for (let parent = 0; parent < modules; parent++) {
    for (const child of children.slice(rowPointers[parent], rowPointers[parent + 1])) {
      if (child <= parent || child >= modules)
        throw reader.fail(`the import tree says that module ${parent} imports module ${child}, of ${modules}`);
    }
  }
}

/** Host code asks by name alone. */
function checkKernelNames(reader: ByteReader, images: readonly BlobImage[]): void {
  const seen = new Set<string>();
  for (const { name } of images.flatMap(({ kernels }) => kernels)) {
    if (seen.has(name)) throw reader.fail(`two kernels are called ${JSON.stringify(name.slice(0, 80))}`);
    seen.add(name);
  }
}

function readImage(reader: ByteReader): BlobImage {
  const format = reader.string('image format');
  if (!kImageFormats.includes(format))
    throw reader.fail(`expected ptx, cubin or fatbin as image format but received ${JSON.stringify(format.slice(0, 80))}`);
  // Each kernel: key, name, two counts.
  const kernels = Array.from({ length: reader.count('number of kernels', 4 * kU64Bytes) }, () => readKernel(reader));
  const sizeBytes = reader.count('length of the image', 1);
  if (sizeBytes > kMaxImageBytes) throw reader.fail(`an image of ${sizeBytes} bytes; at most ${kMaxImageBytes} are accepted`);
  const bytes = reader.bytes(sizeBytes, 'image');
  return { format: format as ImageFormat, kernels, bytes };
}

function readKernel(reader: ByteReader): BlobKernel {
  const name = reader.string('kernel name');
  if (name === '') throw reader.fail('a kernel has no name');
  // FunctionInfo repeats the name, or leaves it empty, by TVM's version; TVM goes by the key.
  reader.string('recorded kernel name');
  const argumentTypes = Array.from({ length: reader.count('number of arguments', 4) }, () => readType(reader));
  const launchTags = readStrings(reader, 'launch tags');
  launchTags.forEach((tag, i) => {
    const known = kThreadTags.includes(tag) || (tag === kDynamicSharedTag && i === launchTags.length - 1);
    if (!known || launchTags.indexOf(tag) !== i) {
      throw reader.fail(`kernel ${name.slice(0, 80)}: unexpected launch tag ${JSON.stringify(tag.slice(0, 80))} in place ${i}`);
    }
  });
  return { name, argumentTypes, launchTags };
}

function writeImage(writer: ByteWriter, image: BlobImage): void {
  writer.string('cuda').string(image.format).u64(image.kernels.length);
  for (const kernel of image.kernels) {
    writer.string(kernel.name).string(kernel.name).u64(kernel.argumentTypes.length);
    for (const { code, bits, lanes } of kernel.argumentTypes) writer.u8(code).u8(bits).u16(lanes);
    writeStrings(writer, kernel.launchTags);
  }
  writer.u64(image.bytes.length).bytes(image.bytes);
}

function readType(reader: ByteReader): DataType {
  const code = reader.u8('type code');
  const bits = reader.u8('type bits');
  const lanes = reader.u16('type lanes');
  const type = dataTypeOf(code, bits, lanes);
  if (!type) throw reader.fail(`type code ${code} with ${bits} bits and ${lanes} lanes is no argument type`);
  return type;
}

/** Arrays that follow each other, whose data stay where they are. */
function readArrays(reader: ByteReader, names: readonly string[]): readonly ParamTensor[] {
  return names.map((name): ParamTensor => {
    const header = readArrayHeader(reader, name);
    const fileOffset = reader.offset;
    reader.skip(header.sizeBytes, name.slice(0, 80));
    return { name, ...header, fileOffset };
  });
}

/** graph.json once more, the parameters, the module's name. */
function readFactory(reader: ByteReader): readonly ParamTensor[] {
  reader.skip(reader.u64('length of the graph'), 'graph');
  const count = reader.count('number of parameters', kU64Bytes);
  const names = readStrings(reader, 'names of parameters');
  if (count !== names.length) throw reader.fail(`${names.length} names but ${count} parameters`);
  if (new Set(names).size !== names.length) throw reader.fail('two parameters have one name');
  const params = readArrays(reader, names);
  reader.string("the module's name");
  return params;
}

function readConstants(reader: ByteReader): Pick<ModuleBlob, 'constants' | 'constantUsers'> {
  const names = readStrings(reader, 'names of constants');
  if (new Set(names).size !== names.length) throw reader.fail('two constants have one name');
  const count = reader.u64('number of constants');
  if (count !== names.length) throw reader.fail(`${names.length} names but ${count} constants`);
  const constants = readArrays(reader, names);
  const symbols = readStrings(reader, 'symbols with constants');
  if (new Set(symbols).size !== symbols.length) throw reader.fail('a symbol is listed twice');
  const userCount = reader.u64('number of symbols with constants');
  if (userCount !== symbols.length) throw reader.fail(`${symbols.length} symbols but ${userCount} lists of constants`);
  const known = new Set(names);
  const constantUsers = symbols.map((symbol): BlobConstantUser => {
    const needed = readStrings(reader, 'constants of a symbol');
    const unknown = needed.find((name) => !known.has(name));
    if (unknown !== undefined)
      throw reader.fail(`symbol ${symbol.slice(0, 80)} needs the constant ${JSON.stringify(unknown.slice(0, 80))}, which is not there`);
    return { symbol, constants: needed };
  });
  return { constants, constantUsers };
}

function writeConstants(writer: ByteWriter, constants: readonly ConstantContents[], users: readonly BlobConstantUser[]): void {
  writer.string('const_loader');
  writeStrings(
    writer,
    constants.map(({ name }) => name),
  );
  writer.u64(constants.length);
  for (const constant of constants) {
    writeArrayHeader(writer, { ...constant, sizeBytes: constant.bytes.length });
    writer.bytes(constant.bytes);
  }
  writeStrings(
    writer,
    users.map(({ symbol }) => symbol),
  );
  writer.u64(users.length);
  for (const user of users) writeStrings(writer, user.constants);
}
