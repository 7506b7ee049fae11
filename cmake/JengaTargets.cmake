# One place for the flags every C++ target shares.
function(jenga_cxx_defaults target)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=>)
  if(JENGA_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=address,undefined -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
endfunction()

# A kernel file compiled with exactly the instruction sets its dispatch gate checks (kernels/cpu/dispatch.cpp).
function(jenga_isa_library target)
  cmake_parse_arguments(ARG "" "" "SOURCES;FLAGS" ${ARGN})
  add_library(${target} OBJECT ${ARG_SOURCES})
  jenga_cxx_defaults(${target})
  target_compile_options(${target} PRIVATE -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math ${ARG_FLAGS})
endfunction()

# A GoogleTest executable registered with ctest.
function(jenga_gtest name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  jenga_cxx_defaults(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
