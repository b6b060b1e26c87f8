/**
 * Records by id: formats, operators, models, kernel families, systems. What is shipped is there from the start; more can be
 * added at run time.
 */
import { LadderError } from './errors.js';

export class Registry<R extends { readonly id: string }> {
  private readonly records = new Map<string, R>();

  /** @param what in messages: `format`, `model`, … */
  constructor(
    private readonly what: string,
    shipped: readonly R[] = [],
  ) {
    for (const record of shipped) this.add(record);
  }

  /** @throws LadderError `BAD_ARGUMENT` for an id that is taken */
  add<T extends R>(record: T): T {
    if (this.records.has(record.id))
      throw new LadderError('BAD_ARGUMENT', `there is a ${this.what} ${JSON.stringify(record.id)} already`, { id: record.id });
    this.records.set(record.id, record);
    return record;
  }

  has(id: string): boolean {
    return this.records.has(id);
  }

  find(id: string): R | null {
    return this.records.get(id) ?? null;
  }

  /** @throws LadderError `BAD_ARGUMENT` naming all that there are */
  get(id: string): R {
    const record = this.records.get(id);
    if (!record)
      throw new LadderError(
        'BAD_ARGUMENT',
        `expected one of ${this.ids().join(', ')} for \`${this.what}\` but received ${JSON.stringify(id)}`,
        { [this.what]: id },
      );
    return record;
  }

  /** In the order in which they were added. */
  all(): readonly R[] {
    return [...this.records.values()];
  }

  ids(): readonly string[] {
    return [...this.records.keys()];
  }
}
