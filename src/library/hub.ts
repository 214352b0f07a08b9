/** Models and data sets of a Hugging Face hub. */
export { localCheckpoint } from '../checkpoint/hub.js';
export { fetchDirectory, fetchTextFiles } from '../data/hub/text-files.js';
export { observeHub, type HubObserver } from '../hub/observer.js';
export { isReference, parseReference, parseRepositoryName, type Reference } from '../hub/reference.js';
export { uploadModel, type Upload, type UploadFile, type UploadOptions } from '../hub/upload.js';
export {
  dataFolder,
  fetchedMmlu,
  fetchedTasks,
  fetchSet,
  listSets,
  SET_NAMES,
  type FetchedSet,
  type FetchOptions,
  type SetDescription,
} from '../data/tasks/fetch.js';
export { localMmlu, localTasks } from '../data/tasks/directories.js';
