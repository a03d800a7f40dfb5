# Installs the library, its headers, and what tells pkg-config and find_package about them. All of it can be moved as a whole.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(PROGRAMS
    "${ipc_staged}/${ipc_profile}/${ipc_file}"
    "${ipc_staged}/${ipc_profile}/${ipc_soname}"
    "${ipc_staged}/${ipc_profile}/libipc.so"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(FILES "${ipc_staged}/${ipc_profile}/libipc.a" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "ipc.h" PATTERN "ipc.hpp")

# pkg-config knows where the file lies; the rest is said relative to that, unless it was given as an absolute path.
set(ipc_pc_prefix "${CMAKE_INSTALL_PREFIX}")
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    file(RELATIVE_PATH ipc_pc_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" ipc_pc_prefix "\${pcfiledir}/${ipc_pc_prefix}")
endif()
foreach(folder IN ITEMS LIBDIR INCLUDEDIR)
    set(ipc_pc_${folder} "${CMAKE_INSTALL_${folder}}")
    if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
        set(ipc_pc_${folder} "\${prefix}/${CMAKE_INSTALL_${folder}}")
    endif()
endforeach()
list(JOIN ipc_native_libs " " ipc_pc_native_libs)
configure_file(cmake/ipc.pc.in ipc.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/ipc.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

set(ipc_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ipc")
configure_package_config_file(cmake/ipc-config.cmake.in ipc-config.cmake
    INSTALL_DESTINATION "${ipc_package_dir}"
    PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
set(ipc_compatibility SameMajorVersion)
if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(ipc_compatibility SameMinorVersion)
endif()
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/ipc-config-version.cmake" COMPATIBILITY ${ipc_compatibility})
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/ipc-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/ipc-config-version.cmake"
    DESTINATION "${ipc_package_dir}")
