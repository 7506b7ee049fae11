# The CUDA library's machine code: compiled by nvcc where there is one (JENGA_CUDA=AUTO) or must be one (ON), embedded in
# host code that knows nothing of nvcc. JENGA_CUDA_CODE names a folder with code compiled before, for a system that nvcc
# does not build for; JENGA_CUDA_INCLUDE then names the folder of cuda.h. CMake 3.25 knows no CUDA20 for nvcc 13, hence 17.
set(JENGA_CUDA_CODE "" CACHE PATH "Folder with machine code of the kernels, compiled by another build (its cuda_code)")
set(JENGA_CUDA_INCLUDE "" CACHE PATH "Folder of cuda.h, for JENGA_CUDA_CODE")
set(JENGA_PTXAS "" CACHE FILEPATH "ptxas of CUDA 12, for machine code that drivers for CUDA 12 take too")
set(JENGA_CUDA_ENABLED OFF)
if(JENGA_CUDA_CODE)
  set(JENGA_CUDA_ENABLED ON)
else()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # every target names its own with jenga_cuda_folder
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(JENGA_CUDA_ENABLED ON)
    set(JENGA_CUDA_CODE ${CMAKE_BINARY_DIR}/cuda_code)
    list(GET CUDAToolkit_INCLUDE_DIRS 0 JENGA_CUDA_INCLUDE)
    # Beside the code: what a build with JENGA_CUDA_CODE needs to know.
    set(toolkit ${CUDAToolkit_VERSION_MAJOR})
    if(JENGA_PTXAS)
      set(toolkit 12)
    endif()
    file(WRITE ${JENGA_CUDA_CODE}/toolkit "${toolkit}\n")
    file(WRITE ${JENGA_CUDA_CODE}/include "${JENGA_CUDA_INCLUDE}\n")
  elseif(JENGA_CUDA STREQUAL "AUTO")
    message(STATUS "jenga: no nvcc found, building without the CUDA library")
  else()
    message(FATAL_ERROR "jenga: JENGA_CUDA=ON needs nvcc on PATH (or CMAKE_CUDA_COMPILER)")
  endif()
endif()

# The architectures that a folder is compiled for: those of ARCHS (`80-ptx`: PTX; `100-of-80`: machine code for 100 made
# of the PTX for 80, as a driver would make it), and with JENGA_ALL_ARCHS, for releases, those of NEWER that this nvcc
# knows, so that no GPU waits for its driver to translate PTX. Without it 86 and 89 run the code for 80, newer ones the PTX.
function(jenga_cuda_archs result archs newer)
  if(JENGA_ALL_ARCHS AND newer)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known)
    foreach(arch IN LISTS newer)  # 90 in sm80/: head dims that sm90/ has no kernel for
      string(REGEX MATCH "^[0-9]+" number ${arch})
      if(known MATCHES "sm_${number}[^0-9]" AND NOT "${arch}a" IN_LIST archs)
        list(APPEND archs ${arch})
      endif()
    endforeach()
  endif()
  set(${result} ${archs} PARENT_SCOPE)
endfunction()

# Compiles one .cu file to `fatbin`: machine code for all architectures, taken out of the object that nvcc makes. The
# host's half of that object is left behind.
function(jenga_cuda_compile name source fatbin)
  set(gencode "")
  foreach(arch IN LISTS ARGN)
    if(arch MATCHES "^([0-9]+a?)-ptx$")
      list(APPEND gencode "-gencode=arch=compute_${CMAKE_MATCH_1},code=compute_${CMAKE_MATCH_1}")
    elseif(arch MATCHES "^([0-9]+)-of-([0-9]+)$")
      list(APPEND gencode "-gencode=arch=compute_${CMAKE_MATCH_2},code=sm_${CMAKE_MATCH_1}")
    else()
      list(APPEND gencode "-gencode=arch=compute_${arch},code=sm_${arch}")
    endif()
  endforeach()
  set(compression "")
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    set(compression --compress-mode=size)
  endif()
  add_library(jenga_code_${name} OBJECT ${source})
  target_include_directories(jenga_code_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(jenga_code_${name} PRIVATE ${gencode} -O3 --expt-relaxed-constexpr --Werror=all-warnings
    ${compression} "-Xcompiler=-fvisibility=hidden,-Wall,'-ffile-prefix-map=${PROJECT_SOURCE_DIR}/='" -lineinfo
    -Xptxas=-v)
  add_custom_command(OUTPUT ${fatbin}
    COMMAND ${CMAKE_OBJCOPY} -O binary --only-section=.nv_fatbin $<TARGET_OBJECTS:jenga_code_${name}> ${fatbin}
    DEPENDS $<TARGET_OBJECTS:jenga_code_${name}> VERBATIM)
endfunction()

# The same by nvcc's front half and an older ptxas.
function(jenga_cuda_assemble source fatbin)
  set(script ${PROJECT_SOURCE_DIR}/cmake/assemble_for_cuda12.py)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h)
  list(JOIN ARGN "," archs)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_custom_command(OUTPUT ${fatbin}
    COMMAND Python3::Interpreter ${script} ${CMAKE_CUDA_COMPILER} ${JENGA_PTXAS} ${CMAKE_CURRENT_SOURCE_DIR}/${source}
      ${fatbin} ${archs} -std=c++17 -I${PROJECT_SOURCE_DIR} -O3 --expt-relaxed-constexpr --Werror=all-warnings -lineinfo
    DEPENDS ${source} ${script} ${headers} VERBATIM)
endfunction()

# One folder of kernels/cuda: jenga_cuda_folder(sm80 HOST a.cpp CODE b.cu c.cu ARCHS 80 80-ptx NEWER 86 90)
# An object library jenga_kernels_cuda_sm80 of the host's files and of the code of every .cu file, which host code finds
# as sm80_b_code (kernels/cuda/driver/kernel.h).
function(jenga_cuda_folder folder)
  cmake_parse_arguments(ARG "" "" "HOST;CODE;ARCHS;NEWER" ${ARGN})
  set(target jenga_kernels_cuda_${folder})
  add_library(${target} OBJECT ${ARG_HOST})
  jenga_cxx_defaults(${target})
  target_include_directories(${target} SYSTEM PUBLIC ${JENGA_CUDA_INCLUDE})
  if(ARG_CODE AND CMAKE_CUDA_COMPILER)
    jenga_cuda_archs(archs "${ARG_ARCHS}" "${ARG_NEWER}")
  endif()
  foreach(source IN LISTS ARG_CODE)
    get_filename_component(stem ${source} NAME_WE)
    set(name ${folder}_${stem})
    set(fatbin ${JENGA_CUDA_CODE}/${name}.fatbin)
    if(CMAKE_CUDA_COMPILER AND JENGA_PTXAS)
      jenga_cuda_assemble(${source} ${fatbin} ${archs})
    elseif(CMAKE_CUDA_COMPILER)
      jenga_cuda_compile(${name} ${source} ${fatbin} ${archs})
    endif()
    set(embedded ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/embedded_code.cpp.in ${embedded} @ONLY)
    set_source_files_properties(${embedded} PROPERTIES OBJECT_DEPENDS ${fatbin})
    target_sources(${target} PRIVATE ${embedded})
    set_property(GLOBAL APPEND PROPERTY JENGA_CUDA_FATBINS_${folder} ${fatbin})
  endforeach()
endfunction()
