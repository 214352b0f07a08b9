import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

/**
 * The layers of src/, the highest first: a folder imports from folders of lower layers, never from its own layer or above.
 * CONTRIBUTING.md says what each is for.
 */
const LAYERS = [
  ['commands'],
  ['cli'],
  ['index.ts'],
  ['library'],
  ['report'],
  ['serving'],
  ['evaluation', 'training', 'profiling'],
  ['sweep'],
  ['checkpoint'],
  ['model'],
  ['engines'],
  ['data', 'ops'],
  ['results'],
  ['hub'],
  ['distributed', 'files'],
  ['package-root.ts', 'printable.ts', 'processor.ts', 'random.ts', 'tf.ts'],
  ['errors.ts'],
];

const zone = (folder, from, message) => ({
  target: `./src/${folder}`,
  from: from.map((other) => `./src/${other}`),
  message,
});

const zones = LAYERS.slice(1).flatMap((layer, index) =>
  layer.map((folder) => {
    const higher = [...LAYERS.slice(0, index + 1).flat(), ...layer.filter((other) => other !== folder)];
    return zone(folder, higher, `src/${folder} is below it or beside it: see LAYERS in eslint.config.js`);
  }),
);
/** Commands know the library by its entry modules. */
const hidden = LAYERS.slice(LAYERS.findIndex((layer) => layer.includes('report'))).flat();
zones.push(zone('commands', hidden, 'a command imports src/library and src/cli alone'));

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'dist-*/',
      'node_modules/',
      'results/',
      'checkpoints/',
      'runs/',
      'site/pages/',
      '**/.vitepress/cache/',
    ],
  },
  ...tseslint.configs.strictTypeChecked.map((config) => ({ ...config, files: ['**/*.ts'] })),
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { 'import-x': importX },
    settings: {
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [createNodeResolver({ extensionAlias: { '.js': ['.ts', '.js'] } })],
    },
    rules: {
      'import-x/no-restricted-paths': ['error', { zones }],
      // Types may refer to each other; modules may not need each other to load.
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
    },
  },
);
