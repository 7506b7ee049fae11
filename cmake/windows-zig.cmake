# Toolchain: Windows on x86-64, cross-compiled by zig (the PyPI package ziglang). JENGA_ZIG names its executable.
# zig's libc++ and compiler runtime are linked statically; the C library is the UCRT of Windows 10 and newer.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES JENGA_ZIG)
set(CMAKE_CXX_COMPILER ${JENGA_ZIG} c++ -target x86_64-windows-gnu -O3)  # -O3: its libraries are built once, for one mode
find_program(CMAKE_AR ar REQUIRED)  # binutils reads and indexes Windows objects too
find_program(CMAKE_RANLIB ranlib REQUIRED)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)  # linking the probes would build zig's libraries twice
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
