/** Text: tokenizers and corpora. */
export { BigramMemory, repeatedBigrams } from '../data/associative-recall.js';
export { loadCorpus, type Corpus } from '../data/corpus.js';
export { readStream, readText } from '../data/files.js';
export {
  checkVocabulary,
  describeOrigins,
  loadTokenizer,
  TOKENIZER_NAMES,
  type Tokenizer,
} from '../data/tokenizer.js';
export { BpeTrainer, checkVocabularySize } from '../data/tokenizers/bpe-trainer.js';
export { tokenizerFile, writeTokenizer } from '../data/tokenizers/write-tokenizer.js';
