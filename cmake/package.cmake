# install: libraries, headers, pkg-config file, CMake package. The command line, man pages and completions
# are installed by src/cli, the report library's targets are named by src/report.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mod_alloc)
install(TARGETS mod_alloc_shared mod_alloc_static EXPORT mod_alloc-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET mod_alloc_report) # not in a cross build
  install(TARGETS mod_alloc_report EXPORT mod_alloc-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(EXPORT mod_alloc-targets NAMESPACE mod_alloc:: DESTINATION ${package_dir})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mod_alloc-config.cmake.in
  ${PROJECT_BINARY_DIR}/mod_alloc-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mod_alloc-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mod_alloc-config.cmake ${PROJECT_BINARY_DIR}/mod_alloc-config-version.cmake
        DESTINATION ${package_dir})

file(RELATIVE_PATH prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/mod_alloc.pc.in ${PROJECT_BINARY_DIR}/mod_alloc.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mod_alloc.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET mod_alloc_report)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/mod_alloc_report.pc.in ${PROJECT_BINARY_DIR}/mod_alloc_report.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/mod_alloc_report.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
