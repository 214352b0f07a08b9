/** The compositions of tfjs operations on its plain backend, held to float64: what all engines are then held to. */
import { usePlainBackend } from '../../plain-backend.js';
import { testDefinitions } from './runner.js';

testDefinitions(usePlainBackend);
