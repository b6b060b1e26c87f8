/** The checkpoints of Figure 8 that the builder makes: the decoding settings of both LLMs in all six formats. */
import type { CheckpointRequest } from './design.js';
import { parseRequest } from './request.js';

const kWeights = ['fp16', 'int4', 'nf4', 'fp8', 'mxfp8', 'int1'];

/** 2 models × BS1, BS32 × 6 formats, one layer, one token per sequence. */
export function figure8Requests(): readonly CheckpointRequest[] {
  return ['llama2-70b', 'bloom-176b'].flatMap((model) => [1, 32].flatMap((batch) => kWeights.map((weight) => parseRequest({ model, batch, seq: 1, weight }))));
}
