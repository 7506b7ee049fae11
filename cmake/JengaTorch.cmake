# Finds torch by asking Python, so that no CMake prefix has to be given. Only headers and libtorch_cpu/_cuda are used:
# the operator libraries keep to torch's stable ABI and load under every torch from JENGA_TORCH_TARGET on.
# In pip's isolated build the interpreter does not see the environment that it installs into; its site-packages do.
set(JENGA_TORCH_TARGET "0x020a000000000000" CACHE STRING "Oldest torch the libraries must load under (2.10)")
if(NOT JENGA_TORCH_DIR)  # given where it is for another system than this one
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_torch.py
    OUTPUT_VARIABLE JENGA_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE JENGA_TORCH_FOUND)
  if(NOT JENGA_TORCH_FOUND EQUAL 0)
    message(FATAL_ERROR "jenga: ${Python3_EXECUTABLE} must have torch 2.10 or newer to build the libraries, got none; "
      "install one, or use a released wheel, or the node pack as it is: without the libraries it runs in plain torch")
  endif()
endif()

function(jenga_link_torch target)
  target_include_directories(${target} SYSTEM PRIVATE ${JENGA_TORCH_DIR}/include)
  target_compile_definitions(${target} PRIVATE TORCH_TARGET_VERSION=${JENGA_TORCH_TARGET})
  set_target_properties(${target} PROPERTIES SKIP_BUILD_RPATH ON PREFIX "lib")
  if(WIN32)
    target_link_libraries(${target} PRIVATE ${JENGA_TORCH_DIR}/lib/torch_cpu.lib)
  else()
    target_link_libraries(${target} PRIVATE ${JENGA_TORCH_DIR}/lib/libtorch_cpu.so)
    target_link_options(${target} PRIVATE -Wl,--no-as-needed)
  endif()
endfunction()
