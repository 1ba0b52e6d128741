# Targets `format` (rewrites), `format-check` and `tidy` (all of src), where the tools are. The configurations are
# for version 14 of each; another version would find fault with other things.
find_program(MODA_CLANG_FORMAT clang-format-14)
find_program(MODA_CLANG_TIDY clang-tidy-14)
find_program(MODA_RUN_CLANG_TIDY run-clang-tidy-14)
mark_as_advanced(MODA_CLANG_FORMAT MODA_CLANG_TIDY MODA_RUN_CLANG_TIDY)

if(MODA_CLANG_FORMAT)
  foreach(mode check rewrite)
    set(name_check format-check)
    set(name_rewrite format)
    add_custom_target(${name_${mode}}
      COMMAND ${CMAKE_COMMAND} -DCLANG_FORMAT=${MODA_CLANG_FORMAT} -DMODE=${mode}
              -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -P ${PROJECT_SOURCE_DIR}/cmake/format.cmake VERBATIM)
  endforeach()
endif()
if(MODA_CLANG_TIDY AND MODA_RUN_CLANG_TIDY)
  set(tidy ${PROJECT_BINARY_DIR}/tidy)
  add_custom_target(tidy
    COMMAND ${CMAKE_COMMAND} -DFROM=${PROJECT_BINARY_DIR}/compile_commands.json -DTO=${tidy}
            -DUNDER=${PROJECT_SOURCE_DIR}/src -P ${PROJECT_SOURCE_DIR}/cmake/tidy_once.cmake
    COMMAND ${MODA_RUN_CLANG_TIDY} -quiet -clang-tidy-binary ${MODA_CLANG_TIDY} -p ${tidy}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} VERBATIM)
  if(TARGET moda_report)
    add_dependencies(tidy moda_report) # whose sources include what its build makes
  endif()
endif()
