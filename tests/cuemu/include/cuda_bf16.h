// Found before the toolkit's header of this name when sources are built for the emulator.
#pragma once

#include "tests/cuemu/numeric.h"
