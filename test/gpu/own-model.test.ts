// Layers from models' folders on a GPU, against PyTorch's transformers: small models of random numbers that save_pretrained writes, one
// and several tokens, with a mask. The GPU also verifies each against the CPU's reference. Needs nvcc and python3 with transformers.
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { buildCheckpoint, loadPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import { missingForOperators } from './operator-checkpoint.js';

/** Writes each model, what its second layer is fed, and what comes of it. */
const kScript = `
import sys, torch, transformers as t
root = sys.argv[1]
sizes = dict(hidden_size=512, intermediate_size=1024, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, vocab_size=128, max_position_embeddings=512)
scaling = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
configs = {
    'llama': t.LlamaConfig(**sizes, rope_theta=500000.0),
    'llama3.1': t.LlamaConfig(**sizes, rope_theta=500000.0, rope_scaling=scaling),
    'qwen2': t.Qwen2Config(**sizes),
    'qwen3': t.Qwen3Config(**sizes, head_dim=128),
    'bloom': t.BloomConfig(hidden_size=512, n_head=4, n_layer=3, vocab_size=128),
}
for name, config in configs.items():
    torch.manual_seed(1)
    config._attn_implementation = 'eager'
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.dim() == 1 else 0.01 * torch.randn_like(parameter))
        model = model.half().float()
        layer = (model.transformer.h if name == 'bloom' else model.model.layers)[1]
        for seq in (1, 40):
            seen = {}
            def keep(module, args, kwargs, output):
                seen['x'] = args[0] if args else kwargs['hidden_states']
                seen['y'] = output[0] if isinstance(output, tuple) else output
            hook = layer.register_forward_hook(keep, with_kwargs=True)
            model(inputs_embeds=torch.randn(2, seq, 512).half().float(), use_cache=False)
            hook.remove()
            for key, value in seen.items():
                value.reshape(-1).float().numpy().astype('<f4').tofile(f'{root}/{name}-{seq}-{key}.bin')
    model.half().save_pretrained(f'{root}/{name}', max_shard_size='4MB')
`;

const root = await mkdtemp(join(tmpdir(), 'ladder-gpu-own-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const python = spawnSync('python3', ['-c', 'import transformers; print(transformers.__version__)'], { encoding: 'utf8' });
const missing = (await missingForOperators()) ?? (python.status === 0 ? null : 'python3 with transformers');
if (missing) console.log(`skipped: the GPU tests of models' folders need ${missing}`);

describe.skipIf(missing)(`against transformers ${(python.stdout ?? '').trim()}`, { timeout: 600_000 }, () => {
  it('computes what Llama, Llama 3.1, Qwen2, Qwen3 and BLOOM compute', async () => {
    const made = spawnSync('python3', ['-c', kScript, root], { encoding: 'utf8' });
    expect(made.status, made.stderr).toBe(0);
    const floats = async (name: string): Promise<Float32Array> =>
      new Float32Array(Uint8Array.from(await readFile(join(root, name))).buffer);
    for (const name of ['llama', 'llama3.1', 'qwen2', 'qwen3', 'bloom'])
      for (const seq of [1, 40]) {
        const { folder } = await buildCheckpoint(join(root, name), { root: join(root, 'built'), layer: 1, batch: 2, seq });
        const [x, expected] = [await floats(`${name}-${seq}-x.bin`), await floats(`${name}-${seq}-y.bin`)];
        expect((await verifyPrebuilt(folder)).passed, `${name}, ${seq} tokens, verified`).toBe(true);
        await using prebuilt = await loadPrebuilt(folder);
        await prebuilt.setInput('x', x);
        await prebuilt.run();
        const y = await prebuilt.getOutput(0, { as: 'float32' });
        let [error, size] = [0, 0];
        expected.forEach((value, i) => {
          error += (y[i]! - value) ** 2;
          size += (value - x[i]!) ** 2;
        });
        const relative = Math.sqrt(error / size);
        console.log(`${name}, ${seq} tokens: relative error ${relative.toExponential(2)}`);
        expect(relative, `${name}, ${seq} tokens`).toBeLessThan(5e-3);
      }
  });
});
