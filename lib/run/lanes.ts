/**
 * Work shared out over several lanes, such as GPUs: each takes the next piece as soon as it is through with its last, so that none waits
 * for the slowest. Knows nothing of what a piece or a lane is.
 */

/**
 * Does all pieces, at most one per lane at a time, in the order of the list.
 * @param work one piece in one lane
 * @throws what `work` throws first: no piece is begun after that, and those that others are at are waited for
 * @example await shareOut(cases, ['cuda:0', 'cuda:1'], (one, index, device) => measure(one, device));
 */
export async function shareOut<Piece, Lane>(
  pieces: Iterable<Piece>,
  lanes: readonly Lane[],
  work: (piece: Piece, index: number, lane: Lane) => Promise<void>,
): Promise<void> {
  const rest = [...pieces].entries();
  const failures: unknown[] = [];
  await Promise.all(
    lanes.map(async (lane) => {
      while (failures.length === 0) {
        const next = rest.next();
        if (next.done) return;
        const [index, piece] = next.value;
        await work(piece, index, lane).catch((error: unknown) => failures.push(error));
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}
